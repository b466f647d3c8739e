/// @file
/// The chain of a pack's task deltas: mapped, hashed, checked against each other, and decoded.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "packnet/api.h"
#include "packnet/pack.h"

namespace packnet {

class Deltas;

namespace detail {
struct Chain;
const Chain& chain_of(const Deltas& deltas) noexcept;  // for the rest of this library
}  // namespace detail

/// A dense float32 tensor in C order.
struct Tensor {
    std::vector<std::int64_t> shape;
    std::vector<float> values;
};

/// What one task brings besides its packed weights.
struct TaskContent {
    std::vector<std::string> classes;       // names, in the order of the logits
    std::map<std::string, Tensor> tensors;  // by the graph's input: unpackable parameters, head.weight, head.bias
    Tensor probe_logits;                    // [kProbeImages, classes]: the training framework's answer
    std::string frozen_sha256;              // what Bank::sha256(index - 1) must give
    std::string report;                     // figures of the training run, a JSON object
    InputSpec input;                        // how its images become the input: its own description, or the pack's
};

/// The deltas of tasks 1..through of a pack. Each file is mapped and hashed, and every length, offset, dtype, shape,
/// name and bit of it checked, before anything is read by it.
///
/// Immutable: any number of threads may use one object at the same time, each with its own output. The files stay
/// mapped while it lives. Writers of packs never change a file in place; if something else cuts one short meanwhile,
/// the system stops the process (SIGBUS), as with every mapped file.
class PACKNET_API Deltas {
public:
    /// @param through  the last task to read; -1 for all of the pack's.
    /// @param threads  how many to hash with; 0 for one per processor.
    /// @throws Error   a file is missing or damaged, or does not fit the pack.
    explicit Deltas(const Pack& pack, int through = -1, unsigned threads = 0);
    ~Deltas();
    Deltas(Deltas&&) noexcept;
    Deltas& operator=(Deltas&&) noexcept;

    /// How many tasks it holds.
    int tasks() const noexcept;

    const std::vector<Parameter>& parameters() const noexcept;

    /// What task `task` (1..tasks()) brings besides its packed weights, as a copy of its own.
    TaskContent content(int task) const;

    /// Decode task `task`'s dense weights straight from the files: zeros where it owns nothing. Takes no memory of
    /// its own. Whoever switches tasks often is faster with a Bank.
    /// @param out      float32 C order, one pointer per parameter of parameters(), each with room for `size` weights.
    /// @param threads  how many to decode with; 0 for one per processor.
    /// @throws Error   `task` or the length of `out` is wrong, or a file changed under the mapping.
    void materialise(int task, const std::vector<float*>& out, unsigned threads = 0) const;

private:
    friend const detail::Chain& detail::chain_of(const Deltas& deltas) noexcept;

    /// What task 1 holds for all tasks, by the graph's input: biases, normalisation, statistics.
    std::map<std::string, Tensor> shared() const;

    std::unique_ptr<const detail::Chain> chain_;
};

}  // namespace packnet
