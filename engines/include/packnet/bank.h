/// @file
/// The weight bank in memory: the weights of all tasks, who owns each, and any task of them at memory speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "packnet/api.h"
#include "packnet/deltas.h"

namespace packnet {

/// All owned weights of tasks 1..tasks(); free ones are exactly 0. Takes five bytes a weight.
///
/// Immutable: any number of threads may use one object at the same time, each with its own output.
class PACKNET_API Bank {
public:
    /// Decode all tasks of `deltas`, which is not needed afterwards.
    /// @param threads  how many to decode with; 0 for one per processor.
    /// @throws Error   not enough memory, the owners break a pattern that pack.json promises, or a file changed under
    ///                 the mapping.
    explicit Bank(const Deltas& deltas, unsigned threads = 0);

    int tasks() const noexcept { return tasks_; }
    const std::vector<Parameter>& parameters() const noexcept { return parameters_; }

    /// Values of parameters()[parameter], float32 [size].
    const float* values(std::size_t parameter) const { return values_.at(parameter).get(); }

    /// Owner map of parameters()[parameter], uint8 [size]: 0 = free, k = first used by task k.
    const std::uint8_t* owners(std::size_t parameter) const { return owners_.at(parameter).get(); }

    /// Task `task`'s dense weights: those with 0 < owner <= task, zeros elsewhere.
    /// @param out      float32 C order, one pointer per parameter of parameters(), each with room for `size` weights.
    /// @param threads  how many to copy with; 0 for one per processor.
    /// @throws Error   `task` is not in 1..tasks(), or the length of `out` is wrong.
    void materialise(int task, const std::vector<float*>& out, unsigned threads = 0) const;

    /// The `frozen_sha256` of docs/format.md: hash of everything that tasks 1..through own, 0 <= through <= tasks().
    std::string sha256(int through) const;

private:
    int tasks_;
    std::vector<Parameter> parameters_;
    std::vector<std::unique_ptr<float[]>> values_;
    std::vector<std::unique_ptr<std::uint8_t[]>> owners_;
    std::vector<Tensor> shared_;  // task 1's, by rising name
};

}  // namespace packnet
