/// @file
/// Weights in an engine's type, as bytes.
#pragma once

#include <cstddef>
#include <string>

#include "sidecar.h"

namespace packnet::detail {

/// Round float32 values to `type`.
/// @param name     of the tensor, for the message.
/// @param out      room for `count` weights of the type.
/// @throws Error   a finite value has become infinite.
void convert(const std::string& name, Precision type, const float* values, std::byte* out, std::size_t count);

}  // namespace packnet::detail
