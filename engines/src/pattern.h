/// @file
/// The 2:4 pattern of docs/format.md: of every 4 consecutive inputs, for each output and kernel pixel, at most 2
/// weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "packnet/pack.h"

namespace packnet::detail {

inline constexpr const char* kPattern = "2:4";
inline constexpr std::size_t kGroup = 4;  // consecutive inputs
inline constexpr int kKept = 2;           // of a group

/// Whether a weight [outputs, inputs, ...] divides into whole groups.
bool fits_pattern(const std::vector<std::int64_t>& shape);

/// Whether the owned weights of an owner map, whose shape fits, keep to the pattern.
bool obeys_pattern(const std::uint8_t* owners, const std::vector<std::int64_t>& shape);

/// @param owners  the whole owner map of a parameter.
/// @throws Error  they break the pattern that pack.json promises for it.
void expect_promised_pattern(const Parameter& parameter, const std::uint8_t* owners);

}  // namespace packnet::detail
