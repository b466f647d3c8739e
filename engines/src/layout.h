/// @file
/// Where every weight that changes with the task lies in one flat buffer: the order of docs/engines.md, the sums of
/// trt/layout.py.
///
/// The banked weights come first, so that one launch switches them all; what each task brings whole follows, so that
/// one copy brings it. All are of one type. Positions and counts are in weights, not bytes.
#pragma once

#include <cstddef>
#include <vector>

#include "sidecar.h"

namespace packnet::detail {

/// Bytes; what TensorRT asks of the addresses of inputs, and more than the kernels do.
inline constexpr std::size_t kAlignment = 256;

/// Positions first..last of a layout, `last` itself not among them.
struct Span {
    std::size_t first, last;

    std::size_t size() const noexcept { return last - first; }
};

struct Layout {
    std::vector<std::size_t> starts;  // of the sidecar's weights, in their order there
    std::size_t banked;               // how long the part with the bank is
    std::size_t count;                // how long all of it is
    std::size_t item;                 // bytes of a weight

    std::size_t bytes() const noexcept { return count * item; }
};

Layout layout_of(const std::vector<SwitchedWeight>& weights, Precision precision);

/// How many weights the place of one takes, the gap behind it included.
std::size_t room_of(const SwitchedWeight& weight) noexcept;

}  // namespace packnet::detail
