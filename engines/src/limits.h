/// @file
/// The largest sizes a reader takes seriously.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace packnet::detail {

inline constexpr std::int64_t kMaxWeights = std::int64_t{1} << 40;
inline constexpr std::size_t kMaxDimensions = 8;
inline constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 23;
inline constexpr std::size_t kMaxHeaderBytes = std::size_t{1} << 23;  // of a safetensors file
inline constexpr std::size_t kMaxGraphBytes = std::size_t{1} << 26;

/// The product of non-negative sizes; nothing if no network has such a shape. Zeros count as ones for that: an
/// empty tensor may not claim any size in its other dimensions.
inline std::optional<std::size_t> size_of(const std::vector<std::int64_t>& shape) {
    if (shape.size() > kMaxDimensions) return std::nullopt;
    std::int64_t claimed = 1;
    bool empty = false;
    for (std::int64_t size : shape) {
        const std::int64_t counted = std::max<std::int64_t>(size, 1);
        if (counted > kMaxWeights / claimed) return std::nullopt;
        claimed *= counted;
        empty = empty || size == 0;
    }
    return empty ? 0 : static_cast<std::size_t>(claimed);
}

}  // namespace packnet::detail
