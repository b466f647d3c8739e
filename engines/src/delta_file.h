/// @file
/// One task delta: what it says about itself, and every check of its tensors before it is believed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "packnet/pack.h"
#include "tensor_file.h"

namespace packnet::detail {

/// What a delta's metadata says; docs/format.md.
struct DeltaHeader {
    std::string task;
    int index;
    std::vector<std::string> classes;
    std::string parent;  // empty for task 1
    std::string graph_sha256, input_sha256, frozen_sha256;
    std::string report;              // a JSON object
    std::optional<InputSpec> input;  // how the task's images become the input; none: as the pack says
};

/// @throws Error  not a delta, of another version, or malformed.
DeltaHeader parse_header(const TensorFile& file);

/// That a delta belongs behind the first `position` deltas of `pack`, under the name that pack.json gives it.
/// @throws Error  another backbone, input, index, parent, name or number of classes, or an input of its own that the
///                network does not take or the pack has already.
void check_place(const TensorFile& file, const DeltaHeader& header, const Pack& pack, std::size_t position);

/// Every tensor but the masks and values of packable parameters (chain.h has those).
/// @param first   task 1's delta, which may be `file` itself: heads and own/ tensors are shaped alike.
/// @throws Error  a tensor is missing, unknown, or has the wrong dtype or shape.
void check_tensors(const TensorFile& file, const DeltaHeader& header, const std::vector<Parameter>& parameters,
                   const TensorFile& first);

}  // namespace packnet::detail
