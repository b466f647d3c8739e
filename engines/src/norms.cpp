#include "norms.h"

#include <cmath>

#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr const char* kNext = "was the plan built from another pack?";

const std::vector<float>& vector_of(const Tensors& tensors, const std::string& name, std::size_t size) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) throw Error({}, "tensor " + in_quotes(name), "in the pack", "none", kNext);
    const Tensor& tensor = found->second;
    if ((size && tensor.values.size() != size) || tensor.shape.size() != 1) {
        throw Error({}, "tensor " + in_quotes(name), size ? "[" + std::to_string(size) + "]" : "one dimension",
                    listed(tensor.shape), kNext);
    }
    return tensor.values;
}

}  // namespace

void unfold_norms_in_place(const std::vector<Norm>& norms, Tensors& tensors) {
    for (const Norm& norm : norms) {
        const std::vector<float>& gamma = vector_of(tensors, norm.norm[0], 0);
        const std::vector<float>& beta = vector_of(tensors, norm.norm[1], gamma.size());
        const std::vector<float>& mean = vector_of(tensors, norm.norm[2], gamma.size());
        const std::vector<float>& variance = vector_of(tensors, norm.norm[3], gamma.size());
        Tensor scale{norm.shape, {}}, shift{norm.shape, {}};
        for (Tensor* tensor : {&scale, &shift}) {
            tensor->shape[0] = static_cast<std::int64_t>(gamma.size());
            tensor->values.resize(gamma.size());
        }
        for (std::size_t i = 0; i < gamma.size(); ++i) {
            const double factor = double{gamma[i]} / std::sqrt(double{variance[i]} + norm.epsilon);
            scale.values[i] = static_cast<float>(factor);
            shift.values[i] = static_cast<float>(double{beta[i]} - double{mean[i]} * factor);
        }
        tensors[norm.scale] = std::move(scale);
        tensors[norm.shift] = std::move(shift);
    }
    for (const Norm& norm : norms) {
        for (const std::string& name : norm.freed) tensors.erase(name);
    }
}

}  // namespace packnet::detail
