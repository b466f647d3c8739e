/// @file
/// Weights in an engine's type, as bytes: made and masked on the host, as kernels do it on a GPU. Both work
/// on weights number begin..end of a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "sidecar.h"

namespace packnet::detail {

/// Round float32 values to `type`.
/// @param name     of the tensor, for the message.
/// @throws Error   a finite value has become infinite.
void convert(const std::string& name, Precision type, const float* values, std::byte* out, std::size_t begin,
             std::size_t end);

/// Weights whose rank is below `task`; zeros for the others.
void mask(Precision type, const std::byte* values, const std::uint8_t* ranks, std::byte* out, std::size_t begin,
          std::size_t end, std::uint8_t task);

}  // namespace packnet::detail
