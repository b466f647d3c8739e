#include "engine_weights.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "bank_ordering.h"
#include "fixed_weights.h"
#include "norms.h"
#include "packnet/error.h"
#include "pattern.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr const char* kBuildAgain = "build the plan again from this pack";
constexpr const char* kHead = "head.";

Error does_not_fit(const std::string& weight, const std::string& expected, const std::string& got) {
    return Error({}, "weight " + in_quotes(weight), expected, got, kBuildAgain);
}

/// The banked weights of the plan, in its order, each with its parameter in the chain.
std::vector<BankedWeight> banked_of(const Chain& chain, const EngineWeights& made) {
    std::map<std::string, std::size_t> numbers;
    for (std::size_t i = 0; i < chain.parameters.size(); ++i) numbers[chain.parameters[i].name] = i;
    std::vector<BankedWeight> banked;
    for (std::size_t i = 0; i < made.weights.size(); ++i) {
        const SwitchedWeight& weight = made.weights[i];
        if (!weight.banked) continue;
        const auto found = numbers.find(weight.name);
        if (found == numbers.end()) throw does_not_fit(weight.name, "in the pack's bank, as in the plan", "none");
        const Parameter& parameter = chain.parameters[found->second];
        if (parameter.shape != weight.shape)
            throw does_not_fit(weight.name, listed(parameter.shape) + " in the plan", listed(weight.shape));
        banked.push_back({found->second, &weight, made.layout.starts[i]});
    }
    return banked;
}

/// Patterns that owners must keep to: pack.json's promise; and a sparse kernel, which tasks that were added after the
/// plan was built may break.
void check_pattern(const Parameter& parameter, const Sidecar& plan, const std::vector<std::uint8_t>& owners) {
    expect_promised_pattern(parameter, owners.data());
    const auto relies = [&](const SparseLayer& layer) { return layer.name == parameter.name && layer.eligible; };
    const bool sparse = plan.sparse_weights && std::any_of(plan.sparsity.begin(), plan.sparsity.end(), relies);
    if (sparse && !(fits_pattern(parameter.shape) && obeys_pattern(owners.data(), parameter.shape))) {
        throw Error({}, "weight " + in_quotes(parameter.name), "2:4 sparsity, which its kernel relies on",
                    "a task that breaks it", "build the plan again from this pack, or with --sparsity off");
    }
}

OrderedBank bank_of(const Chain& chain, const EngineWeights& made, const Sidecar& plan, unsigned threads) {
    const std::vector<BankedWeight> banked = banked_of(chain, made);
    BankOrdering ordering(chain, made.layout, banked);
    std::vector<std::uint8_t> owners;
    for (std::size_t i = 0; i < banked.size(); ++i) {
        const Parameter& parameter = chain.parameters[banked[i].parameter];
        owners.resize(parameter.size);
        ordering.add(i, owners.data(), threads);
        check_pattern(parameter, plan, owners);
    }
    return ordering.take();
}

/// A head with zeros for the classes it does not have; any other tensor as it is.
Tensor padded(const std::string& name, Tensor tensor, int classes) {
    if (name.compare(0, std::strlen(kHead), kHead) != 0 || tensor.shape.empty() || tensor.shape[0] == 0) return tensor;
    const auto of_one = tensor.values.size() / static_cast<std::size_t>(tensor.shape[0]);
    tensor.shape[0] = classes;
    tensor.values.resize(of_one * static_cast<std::size_t>(classes));
    return tensor;
}

/// What a task brings beside its packed weights, as the engine has it.
Tensors tensors_of(const Deltas& deltas, int task, const Sidecar& plan) {
    TaskContent content = deltas.content(task);
    if (static_cast<std::int64_t>(content.classes.size()) > plan.classes) {
        throw Error({}, "task " + std::to_string(task),
                    "at most " + std::to_string(plan.classes) + " classes, the plan's logits",
                    std::to_string(content.classes.size()), kBuildAgain);
    }
    unfold_norms_in_place(plan.norms, content.tensors);
    for (auto& [name, tensor] : content.tensors) tensor = padded(name, std::move(tensor), plan.classes);
    return std::move(content.tensors);
}

/// The tensors of a task that are switched, where the layout has them.
std::vector<std::byte> own_of(const EngineWeights& made, int task, const Tensors& tensors) {
    const Layout& layout = made.layout;
    std::vector<std::byte> own((layout.count - layout.banked) * layout.item);
    for (std::size_t i = 0; i < made.weights.size(); ++i) {
        const SwitchedWeight& weight = made.weights[i];
        if (weight.banked) continue;
        const auto found = tensors.find(weight.name);
        if (found == tensors.end())
            throw does_not_fit(weight.name, "in task " + std::to_string(task) + ", as in the plan", "none");
        const TypedTensor tensor = typed(weight.name, found->second, weight.dtype);
        if (tensor.shape != weight.shape)
            throw does_not_fit(weight.name, listed(weight.shape) + " as in the plan", listed(tensor.shape));
        std::copy(tensor.values.begin(), tensor.values.end(),
                  own.begin() + static_cast<std::ptrdiff_t>((layout.starts[i] - layout.banked) * layout.item));
    }
    return own;
}

bool is_switched(const EngineWeights& made, const std::string& name) {
    return std::any_of(made.weights.begin(), made.weights.end(),
                       [&](const auto& weight) { return weight.name == name; });
}

}  // namespace

EngineWeights engine_weights(const Deltas& deltas, const Sidecar& plan, unsigned threads) {
    if (plan.weights.empty())
        throw Error({}, "switch mode", "refit or bind, whose weights come from a bank", name_of(plan.mode));
    const Chain& chain = chain_of(deltas);
    if (chain.deltas.empty()) throw Error({}, "tasks in the pack", "at least one", "none");
    EngineWeights made{plan.weights, layout_of(plan.weights, plan.precision), {}, {}, 0};
    FixedWeights fixed(plan.precision);
    for (std::size_t i = 0; i < chain.parameters.size(); ++i) {
        if (!is_switched(made, chain.parameters[i].name)) fixed.add_parameter(chain, i, threads);
    }
    for (int task = 1; task <= deltas.tasks(); ++task) {
        const Tensors tensors = tensors_of(deltas, task, plan);
        for (const auto& [name, tensor] : tensors) {
            if (!is_switched(made, name)) fixed.add_tensor(task, name, tensor);
        }
        made.own.push_back(own_of(made, task, tensors));
    }
    fixed.check(plan.fixed_sha256);
    made.fixed = fixed.bytes();
    made.bank = bank_of(chain, made, plan, threads);
    return made;
}

}  // namespace packnet::detail
