/// @file
/// A bank in its place, from which any weights of any task are written to the GPU.
///
/// Where the parts lie is placement.h's; what lies between two tasks, ordered_bank.h's. Here they get memory and
/// addresses, and launches and copies are enqueued.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda.h"
#include "engine_weights.h"
#include "placement.h"

namespace packnet::detail {

/// Bytes on the GPU, or in page-locked memory of the host that it reads.
class PlacedBytes {
public:
    /// Copied; there when this returns.
    PlacedBytes(const void* from, std::size_t bytes, bool on_gpu, const Stream& stream);

    /// Their address for kernels.
    template <typename T>
    const T* as() const noexcept {
        return static_cast<const T*>(address_);
    }

private:
    DeviceMemory there_;
    PinnedMemory here_;
    const void* address_;
};

/// One thread at a time calls it, always with the same stream.
class PlacedBank {
public:
    virtual ~PlacedBank() = default;

    /// Of the buffers that it fills.
    const Layout& layout() const noexcept { return layout_; }

    /// Enqueue what makes the banked weights at `out`, those of `span`, weights of task `target`.
    /// @param source  the task that they are now; 0 for zeros.
    virtual void enqueue_banked(std::byte* out, Span span, int source, int target, const Stream& stream) = 0;

    /// Enqueue a copy to `out` of what `task` brings whole for `span`, which lies behind the banked part.
    void enqueue_own(std::byte* out, Span span, int task, const Stream& stream) const;

protected:
    /// @param own  of all tasks, one behind the other.
    PlacedBank(const Layout& layout, const std::vector<std::byte>& own, bool own_on_gpu, const Stream& stream);

private:
    const Layout layout_;
    const PlacedBytes own_;
};

/// With kernels, a switch is one launch over what differs, which reads the bank where `placement` has it. Without any,
/// the host switches a task's weights in page-locked memory, and copies those that are asked for.
/// @throws EnvironmentFault  too little memory; or values are to lie on the GPU, and there are no kernels.
std::unique_ptr<PlacedBank> place_bank(EngineWeights weights, const Placement& placement, const Stream& stream);

}  // namespace packnet::detail
