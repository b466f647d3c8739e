/// @file
/// Folding normalisation into the layers before it, as export/fold.py does it: float64, the same operations in the same
/// order, rounded once, so that the results are equal by the bit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "packnet/deltas.h"
#include "packnet/sidecar.h"

namespace packnet::detail {

/// One factor per output channel of a weight. The factor of weight number i, in C order, is
/// `values[i / inner % values.size()]`.
template <typename Number>
struct Factors {
    std::vector<Number> values;
    std::size_t inner;  // weights of one output that lie side by side

    /// Call `work(from, to, factor)` for every run of weights in begin..end that have one factor.
    template <typename Work>
    void for_each_run(std::size_t begin, std::size_t end, const Work& work) const {
        for (std::size_t from = begin; from < end;) {
            const std::size_t run = from / inner, to = std::min(end, (run + 1) * inner);
            work(from, to, values[run % values.size()]);
            from = to;
        }
    }
};

using Tensors = std::map<std::string, Tensor>;
using Scales = std::map<std::string, Factors<double>>;  // by weight

/// The shapes of the weights that are in the bank, by name.
using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// One task's side of the folds: its biases change or appear in `tensors`, its freed normalisation leaves it.
/// @return         what every folded weight has yet to be multiplied by.
/// @throws Error   a fold names a tensor that is not there, or one of another size.
Scales fold_biases_in_place(const std::vector<Fold>& folds, const Shapes& banked, Tensors& tensors);

/// Multiply in float64, round once.
void scale_in_place(float* values, std::size_t begin, std::size_t end, const Factors<double>& factors);

/// The bank's own scales out of the shared ones: where one is zero or tiny, the bank is left unscaled, or no task's
/// ratio could bring it back.
Scales bank_scales(Scales shared);

/// What a task multiplies its masked weights by, on top of the bank's scale; no values where that is nothing.
Factors<float> ratio(const Factors<double>& task, const Factors<double>& bank);

}  // namespace packnet::detail
