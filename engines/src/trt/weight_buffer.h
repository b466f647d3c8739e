/// @file
/// Room on the GPU for all weights that change with the task, of one task at a time.
#pragma once

#include <cstddef>
#include <vector>

#include "cuda.h"
#include "sidecar.h"

namespace packnet::detail {

/// Each weight lies at a multiple of 256 bytes, which is what TensorRT asks of inputs. Addresses stay what they are.
class WeightBuffer {
public:
    explicit WeightBuffer(const std::vector<SwitchedWeight>& weights) {
        std::size_t bytes = 0;
        std::vector<std::size_t> places;
        for (const SwitchedWeight& weight : weights) {
            places.push_back(bytes);
            bytes += (weight.bytes() + kAlignment - 1) / kAlignment * kAlignment;
        }
        memory_ = DeviceMemory(bytes, "memory for one task's weights");
        for (std::size_t place : places) addresses_.push_back(memory_.as<std::byte>() + place);
    }

    /// In the order of the sidecar's weights.
    const std::vector<std::byte*>& addresses() const noexcept { return addresses_; }

    int task = 0;  // whose weights it holds; 0 where nobody knows

    static constexpr std::size_t kAlignment = 256;  // bytes

private:
    DeviceMemory memory_;
    std::vector<std::byte*> addresses_;
};

}  // namespace packnet::detail
