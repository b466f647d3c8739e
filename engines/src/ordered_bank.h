/// @file
/// A bank ordered by owner, and what lies between two tasks: docs/engines.md's layout, trt/difference.py in Python.
///
/// Tasks nest, so between tasks i and j lie the weights whose owner does: going up their values are written, going down
/// zeros. Task 0 owns nothing: from a buffer of zeros, any task is a way up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace packnet::detail {

inline constexpr std::size_t kTile = 8192;         // weights that one block of the kernels works on
inline constexpr std::size_t kWords = kTile / 32;  // of its mask

/// All owned weights of the banked part of a layout. Row k - 1 of `masks` and `before` is of task k's own.
struct OrderedBank {
    int tasks;
    std::size_t tiles;                  // that cover the banked part
    std::vector<std::byte> values;      // typed, by owner and then by position; zeros fill the last 16 bytes
    std::vector<std::uint32_t> masks;   // [tasks, tiles * kWords]: bit b of word w is weight 32 * w + b
    std::vector<std::uint32_t> before;  // [tasks, tiles + 1]: how many of `values` come before those of each tile
};

/// What lies between two tasks: the owners of rows first..last of a bank, `last` itself not among them.
struct Between {
    int first, last;
    bool up;  // their values are to be written; if not, zeros

    int owners() const noexcept { return last - first; }
};

Between between(int source, int target) noexcept;

/// Make the banked weights of task `source`, flat as the layout has them, those of task `target`: what the kernels do,
/// one weight after the other.
void switch_in_place(std::byte* out, const OrderedBank& bank, std::size_t item, int source, int target);

}  // namespace packnet::detail
