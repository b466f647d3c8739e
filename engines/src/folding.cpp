#include "folding.h"

#include <algorithm>
#include <cmath>

#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr double kSmallestScale = 1e-6;  // as in export/deploy_bank.py
constexpr const char* kNext = "was the plan built from another pack?";

Tensor& named(Tensors& tensors, const std::string& name) {
    const auto found = tensors.find(name);
    if (found == tensors.end())
        throw Error({}, "tensor " + in_quotes(name), "in the pack, to be folded", "none", kNext);
    return found->second;
}

const Tensor& vector_of(Tensors& tensors, const std::string& name, std::size_t size) {
    const Tensor& tensor = named(tensors, name);
    if (tensor.values.size() != size || tensor.shape.size() != 1) {
        throw Error({}, "tensor " + in_quotes(name), "[" + std::to_string(size) + "], to be folded",
                    listed(tensor.shape), kNext);
    }
    return tensor;
}

/// `values`, one per output, laid over a weight of `shape` whose outputs are at the axis of -1 in `fold.broadcast`.
Factors<double> laid_over(const Fold& fold, const std::vector<std::int64_t>& shape, std::vector<double> values) {
    const std::vector<std::int64_t>& broadcast = fold.broadcast;
    const auto outputs = std::find(broadcast.begin(), broadcast.end(), -1) - broadcast.begin();
    if (broadcast.size() != shape.size() ||
        shape[static_cast<std::size_t>(outputs)] != static_cast<std::int64_t>(values.size())) {
        throw Error({}, "weight " + in_quotes(fold.weight), std::to_string(values.size()) + " outputs, to be folded",
                    listed(shape), kNext);
    }
    std::size_t inner = 1;
    for (auto axis = static_cast<std::size_t>(outputs) + 1; axis < shape.size(); ++axis) {
        inner *= static_cast<std::size_t>(shape[axis]);
    }
    return {std::move(values), inner};
}

}  // namespace

Scales fold_biases_in_place(const std::vector<Fold>& folds, const Shapes& banked, Tensors& tensors) {
    Scales scales;
    for (const Fold& fold : folds) {
        const std::size_t size = named(tensors, fold.norm[0]).values.size();
        const std::vector<float>& gamma = vector_of(tensors, fold.norm[0], size).values;
        const std::vector<float>& beta = vector_of(tensors, fold.norm[1], size).values;
        const std::vector<float>& mean = vector_of(tensors, fold.norm[2], size).values;
        const std::vector<float>& variance = vector_of(tensors, fold.norm[3], size).values;
        std::vector<float> bias(size);
        if (!fold.gains_bias) bias = vector_of(tensors, fold.bias, size).values;
        std::vector<double> scale(size);
        for (std::size_t i = 0; i < size; ++i) {
            scale[i] = double{gamma[i]} / std::sqrt(double{variance[i]} + fold.epsilon);
            bias[i] = static_cast<float>((double{bias[i]} - double{mean[i]}) * scale[i] + double{beta[i]});
        }
        tensors[fold.bias] = {{static_cast<std::int64_t>(size)}, std::move(bias)};
        const auto in_bank = banked.find(fold.weight);
        const auto& shape = in_bank != banked.end() ? in_bank->second : named(tensors, fold.weight).shape;
        Factors<double> factors = laid_over(fold, shape, std::move(scale));
        const auto [place, is_first] = scales.try_emplace(fold.weight, factors);
        if (place->second.values.size() != size || place->second.inner != factors.inner) {
            throw Error({}, "weight " + in_quotes(fold.weight), "folds along one axis", "along two", kNext);
        }
        for (std::size_t i = 0; !is_first && i < size; ++i) place->second.values[i] *= factors.values[i];
        for (const std::string& name : fold.freed) tensors.erase(name);
    }
    return scales;
}

void scale_in_place(float* values, std::size_t begin, std::size_t end, const Factors<double>& factors) {
    factors.for_each_run(begin, end, [&](std::size_t from, std::size_t to, double factor) {
        for (std::size_t i = from; i < to; ++i) values[i] = static_cast<float>(double{values[i]} * factor);
    });
}

Scales bank_scales(Scales shared) {
    for (auto& [name, factors] : shared) {
        for (double& scale : factors.values) {
            if (!(std::abs(scale) >= kSmallestScale)) scale = 1.0;
        }
    }
    return shared;
}

Factors<float> ratio(const Factors<double>& task, const Factors<double>& bank) {
    Factors<float> result{{}, task.inner};
    if (task.values == bank.values) return result;
    for (std::size_t i = 0; i < task.values.size(); ++i) {
        result.values.push_back(static_cast<float>(task.values[i] / bank.values[i]));
    }
    return result;
}

}  // namespace packnet::detail
