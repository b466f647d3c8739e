/// @file
/// Everything that is checked before a plan is deserialised, which is when its code starts to run: trt/check.py's
/// checks.
///
/// Hashes find damage and mix-ups, not malice.
#pragma once

#include <filesystem>
#include <string>

#include "mapped_file.h"
#include "packnet/pack.h"
#include "sidecar.h"

namespace packnet::detail {

/// What a plan would run on here.
struct Machine {
    std::string flavour;   // "tensorrt" or "tensorrt-rtx": what this library is linked with
    std::string tensorrt;  // its version, "10.13.3.9"
    std::string gpu;       // name
    std::string compute_capability;
};

/// TensorRT's flavour, its exact version, and the GPU.
void check_machine(const std::filesystem::path& plan, const Sidecar& sidecar, const Machine& machine);

/// The pack's backbone and input, that the plan's tasks are its first ones, and that later heads fit.
void check_pack(const std::filesystem::path& plan, const Sidecar& sidecar, const Pack& pack);

/// The plan itself: size and hash. The mapping holds the very bytes that were checked.
MappedFile open_plan(const std::filesystem::path& plan, const Sidecar& sidecar);

}  // namespace packnet::detail
