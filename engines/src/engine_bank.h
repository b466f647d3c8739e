/// @file
/// The weight bank as an engine takes it: in the engine's type, normalisation apart. No GPU is needed for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "packnet/deltas.h"
#include "sidecar.h"

namespace packnet {

/// All that tasks 1..tasks() of a pack give an engine that is refitted or has its weights bound: equal, bit for bit,
/// to what the Python package gives it.
///
/// Immutable but for drop_bank: any number of threads may use one object at the same time, each with its own output.
/// Takes five bytes a weight in fp32, three in fp16 and bf16, and five while it is made.
class EngineBank {
public:
    /// @param deltas   of the pack; not needed afterwards.
    /// @param plan     of a plan with the switch mode refit or bind.
    /// @param threads  how many to decode and convert with; 0 for one per processor.
    /// @throws Error   the pack does not fit the plan: a weight is missing or of another shape, a head is wider than
    ///                 the engine's, a tensor that is in the plan for good differs; a value does not fit the type; a
    ///                 layer that may run on a sparse kernel has come to break 2:4; not enough memory.
    explicit EngineBank(const Deltas& deltas, const Sidecar& plan, unsigned threads = 0);
    ~EngineBank();
    EngineBank(EngineBank&&) noexcept;
    EngineBank& operator=(EngineBank&&) noexcept;

    int tasks() const noexcept;

    /// What changes with the task, in the order of the sidecar: the order of every list of weights here.
    const std::vector<SwitchedWeight>& weights() const noexcept;

    /// Typed values of a banked weight [size]; null for the others.
    const std::byte* values(std::size_t weight) const;

    /// Ranks of a banked weight, uint8 [size]: the owner's index minus one, 255 = free; null for the others.
    const std::uint8_t* ranks(std::size_t weight) const;

    /// Typed tensor [size] that `task` brings for a weight that is not banked; null for the others.
    const std::byte* tensor(int task, std::size_t weight) const;

    /// All that the engine must be given to be `task`.
    /// @param out      the caller's memory: for each of weights() room for its bytes(), aligned for its type.
    /// @param threads  how many to copy with; 0 for one per processor.
    /// @throws Error   `task` is not in 1..tasks(), the length of `out` is wrong, or the bank has been dropped.
    void materialise(int task, const std::vector<std::byte*>& out, unsigned threads = 0) const;

    /// Free values() and ranks(), once they are where a GPU masks them: they are null from then on, and materialise
    /// throws. Nothing else may use the object meanwhile.
    void drop_bank() noexcept;

private:
    struct Content;
    std::unique_ptr<Content> content_;
};

}  // namespace packnet
