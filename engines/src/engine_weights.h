/// @file
/// All that the tasks of a pack give an engine that is refitted or has its weights bound: in the engine's type, laid
/// out as the GPU has it, equal by the bit to what the Python package gives it. No GPU is needed for it.
#pragma once

#include <cstddef>
#include <vector>

#include "layout.h"
#include "ordered_bank.h"
#include "packnet/deltas.h"
#include "sidecar.h"

namespace packnet::detail {

struct EngineWeights {
    std::vector<SwitchedWeight> weights;      // the sidecar's, in its order
    Layout layout;                            // of these
    OrderedBank bank;                         // of the layout's banked part
    std::vector<std::vector<std::byte>> own;  // by task: the layout's part behind the bank
    std::size_t fixed;                        // bytes of what the plan holds for good

    int tasks() const noexcept { return bank.tasks; }
};

/// @param deltas   of the pack; not needed afterwards.
/// @param plan     of a plan with the switch mode refit or bind.
/// @param threads  how many to decode with; 0 for one per processor.
/// @throws Error   the pack does not fit the plan: a weight is missing or of another shape, a head is wider than the
///                 engine's, a tensor that is in the plan for good differs; a value does not fit the type; the owners
///                 break a pattern that pack.json promises, or that a sparse kernel relies on.
EngineWeights engine_weights(const Deltas& deltas, const Sidecar& plan, unsigned threads);

}  // namespace packnet::detail
