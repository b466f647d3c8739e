/// @file
/// Where the parts of a bank lie, and what they weigh: trt/placement.py's sums. Pure: counts in, counts out.
///
/// On the GPU is what the engine reads: one model, whatever the number of tasks. The bank lies in page-locked host
/// memory, from where a switch reads the difference, or on the GPU too if that is asked for. With the bank on the host,
/// positions and what tasks bring whole still lie on the GPU where either fits a tenth of a model, so that all stays
/// within 1.2.
#pragma once

#include <cstddef>

#include "engine_weights.h"

namespace packnet::detail {

/// Bytes of everything a switchable engine is made of.
struct Sizes {
    std::size_t fixed;      // of the weights in the plan for good
    std::size_t changing;   // of those that change with the task, by themselves
    std::size_t largest;    // of these, the gap behind it included
    std::size_t positions;  // of the ordered bank: its masks
    std::size_t counts;     // always on the GPU
    std::size_t own;        // of what all tasks bring whole

    std::size_t model() const noexcept { return fixed + changing; }  // what a plan of one task holds
};

Sizes sizes_of(const EngineWeights& weights);

/// Which parts lie on the GPU; the others lie in page-locked host memory.
struct Placement {
    bool values, positions, own;
    std::size_t scratch;  // bytes of the buffer from which an engine is refitted, group by group; 0 for bind
};

/// @param mode       refit or bind.
/// @param on_device  the whole bank lies on the GPU.
Placement place(const Sizes& sizes, Switch mode, bool on_device) noexcept;

}  // namespace packnet::detail
