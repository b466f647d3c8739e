/// @file
/// Turning a checked chain of deltas into weights. The slow version is the Python package's pack/reference.py.
#pragma once

#include <cstdint>

#include "chain.h"

namespace packnet::detail {

/// Which instructions may be used.
enum class Processor { any, x86_bmi2, arm_neon };

/// The most that this processor knows.
Processor this_processor() noexcept;

/// Decode one chunk of a parameter: the weights owned by tasks 1..through, 0 elsewhere.
/// @param values  float32, the chunk's: kChunk of them, the last chunk fewer.
/// @param owners  the same of the owner map, uint8; may be null.
/// @throws Error  a mask marks more weights than there are values: the file has changed since it was checked.
void decode_chunk(const Chain& chain, std::size_t parameter, std::size_t chunk, int through, float* values,
                  std::uint8_t* owners, Processor processor = this_processor());

/// float32 tensor of a file, copied.
std::vector<float> read_floats(const TensorEntry& entry);

}  // namespace packnet::detail
