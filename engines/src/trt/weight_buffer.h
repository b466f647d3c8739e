/// @file
/// Room on the GPU for all weights that change with the task, of one task at a time.
#pragma once

#include <cstddef>
#include <vector>

#include "cuda.h"
#include "placed_bank.h"

namespace packnet::detail {

/// Weights lie as the bank's layout has them, at addresses that stay what they are.
class WeightBuffer {
public:
    /// It holds no task yet.
    explicit WeightBuffer(const Layout& layout);

    /// In the order of the sidecar's weights.
    const std::vector<std::byte*>& addresses() const noexcept { return addresses_; }

    /// Enqueue what makes it hold `task`'s weights.
    void enqueue(PlacedBank& bank, int task, const Stream& stream);

private:
    static constexpr int kNobodyKnows = -1;

    DeviceMemory memory_;
    std::vector<std::byte*> addresses_;
    int task_ = kNobodyKnows;  // whose weights it holds
};

}  // namespace packnet::detail
