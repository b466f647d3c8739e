/// @file
/// The weights that change with the task, typed, in one buffer on the GPU that any task can be written into.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda.h"
#include "packnet/engine_bank.h"

namespace packnet::detail {

/// Writes the banked weights of a task into the buffer. One of two, as there was a CUDA compiler: masking.cu masks a
/// bank on the GPU; masking_host.cpp masks on the host and copies the result.
class Masking {
public:
    virtual ~Masking() = default;

    /// Enqueue it. `addresses` are the weights' on the GPU, in the order of the bank's.
    virtual void enqueue(int task, const std::vector<std::byte*>& addresses, const Stream& stream) = 0;
};

/// `bank` must outlive it; it is dropped where the masking has taken it over.
std::unique_ptr<Masking> make_masking(EngineBank& bank, const Stream& stream);

/// All switched weights of one task at a time.
class WeightBuffer {
public:
    WeightBuffer(EngineBank bank, const Stream& stream);
    WeightBuffer(const WeightBuffer&) = delete;  // masking_ points into it
    WeightBuffer& operator=(const WeightBuffer&) = delete;

    const std::vector<SwitchedWeight>& weights() const noexcept { return bank_.weights(); }

    /// Where each weight lies, a multiple of 256 bytes, in the order of weights(). They stay what they are.
    const std::vector<std::byte*>& addresses() const noexcept { return addresses_; }

    /// Enqueue what makes the buffer hold `task`'s weights.
    void fill(int task, const Stream& stream);

private:
    EngineBank bank_;
    DeviceMemory memory_;
    std::vector<std::byte*> addresses_;
    std::unique_ptr<Masking> masking_;
};

}  // namespace packnet::detail
