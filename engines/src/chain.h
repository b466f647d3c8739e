/// @file
/// The deltas of tasks 1..k, checked against each other and the pack, ready to be decoded chunk by chunk.
#pragma once

#include <cstddef>
#include <vector>

#include "delta_file.h"
#include "mapped_file.h"
#include "packnet/pack.h"
#include "tensor_file.h"

namespace packnet::detail {

/// Weights that are decoded as one piece: float32 values of one chunk take 512 KiB.
inline constexpr std::size_t kChunk = std::size_t{1} << 17;

inline std::size_t chunks_of(const Parameter& parameter) { return (parameter.size + kChunk - 1) / kChunk; }

/// One task's share in one parameter.
struct Share {
    bool takes_all;  // of what is free: there is no mask
    Bytes mask;      // one bit per weight that is free before this task
    TensorEntry values;
    std::vector<std::size_t> taken_before;  // by chunk: how many of the values belong to earlier chunks
};

struct Delta {
    DeltaHeader header;
    TensorFile file;
    std::vector<Share> shares;  // by parameter
};

struct Chain {
    std::vector<MappedFile> mappings;  // what the deltas point into; empty where a test holds the bytes
    std::vector<Parameter> parameters;
    InputSpec input;  // the pack's
    std::vector<Delta> deltas;
};

/// Check the contents of the delta files of tasks 1..files.size(); hashes are the caller's.
/// @throws Error  anything does not fit.
Chain check_chain(const Pack& pack, const std::vector<Bytes>& files);

}  // namespace packnet::detail
