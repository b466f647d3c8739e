/// @file
/// Writing a task's weights into a buffer on the GPU: where the bank lies, and who masks it.
#pragma once

#include <memory>

#include "cuda.h"
#include "engine_bank.h"
#include "packnet/packnet.h"
#include "weight_buffer.h"

namespace packnet::detail {

/// One for all buffers of a plan. One thread at a time calls it, always with the same stream.
class Switcher {
public:
    virtual ~Switcher() = default;

    /// Enqueue what makes `buffer` hold `task`'s weights. `buffer.task` says whose it holds now.
    virtual void enqueue(const WeightBuffer& buffer, int task, const Stream& stream) = 0;
};

/// @param where            anywhere or device: the bank lies on the GPU, if this library was built with kernels.
/// @throws EnvironmentFault  too little memory; or the device was asked for, and there are no kernels.
std::unique_ptr<Switcher> make_switcher(EngineBank bank, packnet_bank where, const Stream& stream);

/// The bank stays on the host, whose threads mask it; the result is copied.
std::unique_ptr<Switcher> make_host_switcher(EngineBank bank);

}  // namespace packnet::detail
