/// @file
/// The kernels of switch.cu, launched. A library that was built without a CUDA compiler has none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda.h"
#include "layout.h"

namespace packnet::detail {

/// One launch: the arguments of the kernels; all addresses are the GPU's.
struct SwitchLaunch {
    std::byte* out;               // where position span.first goes
    const std::byte* values;      // null: zeros are written
    const std::uint32_t* masks;   // of the lowest of the owners
    const std::uint32_t* before;  // likewise
    std::size_t tiles;            // of the whole bank
    int owners;
    Span span;         // of the bank: what is written, not empty
    std::size_t item;  // bytes of a weight
};

bool has_kernels() noexcept;

/// @throws EnvironmentFault  it cannot be launched.
void launch(const SwitchLaunch& what, const Stream& stream);

}  // namespace packnet::detail
