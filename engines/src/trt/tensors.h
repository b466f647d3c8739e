/// @file
/// An engine's inputs and outputs: their names, and what must hold of them before anything is bound to them.
#pragma once

#include <NvInferRuntime.h>

#include <string>

#include "sidecar.h"

namespace packnet::detail {

inline constexpr const char* kImages = "images";
inline constexpr const char* kLogits = "logits";
inline constexpr const char* kTask = "task";
inline constexpr const char* kBuildAgain = "build the plan again";

nvinfer1::DataType type_of(Precision precision) noexcept;

/// For messages: "[-1, 3, 224, 224]".
std::string shown(const nvinfer1::Dims& shape);

/// The engine reads and writes at the addresses that it is given as far as its own shapes say: names, directions,
/// types, shapes, and the batches that it takes, are the sidecar's.
/// @param plan     its file, for messages.
/// @throws Error   they are not.
void check_tensors(const std::string& plan, const nvinfer1::ICudaEngine& engine, const Sidecar& sidecar);

}  // namespace packnet::detail
