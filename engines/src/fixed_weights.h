/// @file
/// What a plan holds for good: the weights that are the same for every task of a pack, typed, and their hash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "chain.h"
#include "packnet/deltas.h"
#include "sidecar.h"

namespace packnet::detail {

/// A tensor in an engine's type.
struct TypedTensor {
    std::vector<std::int64_t> shape;
    std::vector<std::byte> values;
};

/// @throws Error  a value does not fit the type.
TypedTensor typed(const std::string& name, const Tensor& tensor, Precision type);

class FixedWeights {
public:
    explicit FixedWeights(Precision type) : type_(type) {}

    /// A parameter of the pack, which must be the first task's to the last weight, or a task would miss its own.
    /// @throws Error  it is not.
    void add_parameter(const Chain& chain, std::size_t parameter, unsigned threads);

    /// A tensor that `task` has in common with the first one.
    /// @throws Error  it is another.
    void add_tensor(int task, const std::string& name, const Tensor& tensor);

    /// That all of it is what the plan holds.
    /// @throws Error  it is not.
    void check(const std::string& sha256) const;

    std::size_t bytes() const noexcept;

private:
    const Precision type_;
    std::map<std::string, TypedTensor> tensors_;  // by rising name
};

}  // namespace packnet::detail
