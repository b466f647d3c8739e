/// @file
/// Weights in an engine's type, as bytes: made, masked and scaled on the host, as mask.cu does it on a GPU. All three
/// work on weights number begin..end of a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "packnet/sidecar.h"

namespace packnet::detail {

/// Round float32 values to `type`.
/// @param name     of the tensor, for the message.
/// @throws Error   a finite value has become infinite.
void convert(const std::string& name, Precision type, const float* values, std::byte* out, std::size_t begin,
             std::size_t end);

/// Weights whose rank is below `task`; zeros for the others.
void mask(Precision type, const std::byte* values, const std::uint8_t* ranks, std::byte* out, std::size_t begin,
          std::size_t end, std::uint8_t task);

/// Multiply in float32 and round to the type.
void multiply(Precision type, std::byte* weights, std::size_t begin, std::size_t end, float factor);

}  // namespace packnet::detail
