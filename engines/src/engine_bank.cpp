#include "engine_bank.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <new>

#include "norms.h"
#include "outputs.h"
#include "packnet/bank.h"
#include "parallel.h"
#include "pattern.h"
#include "sha256.h"
#include "text.h"
#include "typed.h"

namespace packnet {

using detail::Tensors;

namespace {

constexpr const char* kBuildAgain = "build the plan again from this pack";
constexpr const char* kHead = "head.";
constexpr std::uint8_t kNoRank = 255;  // of a weight without an owner; other ranks are owners minus one

using Memory = std::unique_ptr<std::byte[]>;

/// One banked weight.
struct Banked {
    Memory values;
    std::unique_ptr<std::uint8_t[]> ranks;
};

/// A task's side: by weight, tensors where they are not banked.
using Side = std::vector<Memory>;

/// A weight of the bank that never changes, and is in the plan for good.
struct Baked {
    std::vector<std::int64_t> shape;
    const float* values;
    std::size_t size;
};

Memory allocate(const SwitchedWeight& weight) {
    Memory memory(new (std::nothrow) std::byte[weight.bytes()]);
    if (!memory) {
        throw EnvironmentFault({}, "weight " + detail::in_quotes(weight.name),
                               "memory for " + std::to_string(weight.bytes()) + " bytes", "none",
                               "use a larger machine");
    }
    return memory;
}

Memory converted(const SwitchedWeight& weight, const std::vector<std::int64_t>& shape, const float* values) {
    if (shape != weight.shape) {
        throw Error({}, "weight " + detail::in_quotes(weight.name), detail::listed(weight.shape) + " as in the plan",
                    detail::listed(shape), kBuildAgain);
    }
    Memory memory = allocate(weight);
    detail::convert(weight.name, weight.dtype, values, memory.get(), 0, weight.size);
    return memory;
}

/// A head with zeros for the classes it does not have; any other tensor as it is.
Tensor padded(const std::string& name, Tensor tensor, int classes) {
    if (name.compare(0, std::strlen(kHead), kHead) != 0 || tensor.shape.empty() || tensor.shape[0] == 0) return tensor;
    const auto of_one = tensor.values.size() / static_cast<std::size_t>(tensor.shape[0]);
    tensor.shape[0] = classes;
    tensor.values.resize(of_one * static_cast<std::size_t>(classes));
    return tensor;
}

bool changes(const std::vector<SwitchedWeight>& weights, const std::string& name) {
    return std::any_of(weights.begin(), weights.end(), [&](const auto& weight) { return weight.name == name; });
}

/// The hash of EngineBank.fixed_sha256 in trt/bank.py, over every tensor and baked weight that is not one of `weights`.
std::string fixed_sha256(const Tensors& tensors, const std::map<std::string, Baked>& baked,
                         const std::vector<SwitchedWeight>& weights, Precision type) {
    const char* names[] = {"float32", "float16", "bfloat16"};
    std::map<std::string, Baked> fixed = baked;  // by rising name
    for (const auto& [name, tensor] : tensors) {
        if (!changes(weights, name)) fixed[name] = {tensor.shape, tensor.values.data(), tensor.values.size()};
    }
    detail::Sha256 hash;
    for (const auto& [name, tensor] : fixed) {
        std::string line = name + ' ' + names[static_cast<int>(type)] + ' ';
        for (std::size_t i = 0; i < tensor.shape.size(); ++i) line += (i ? " " : "") + std::to_string(tensor.shape[i]);
        line += '\n';
        hash.update(line.data(), line.size());
        const SwitchedWeight typed{name, tensor.shape, type, false, tensor.size};
        hash.update(converted(typed, tensor.shape, tensor.values).get(), typed.bytes());
    }
    return hash.hex();
}

}  // namespace

struct EngineBank::Content {
    std::vector<SwitchedWeight> weights;
    std::vector<Banked> banked;  // by weight; empty where it is not banked
    std::vector<Side> sides;     // by task
    bool dropped = false;        // of `banked`, the memory

    std::map<std::string, Baked> baked_of(const Bank& bank) const;
    void take_banked(Bank bank, unsigned threads);
    void add_side(const Sidecar& plan, Tensors tensors, const std::map<std::string, Baked>& baked,
                  const std::string& task);
    void check_sparsity(const Sidecar& plan) const;
    void materialise(int task, std::size_t weight, std::size_t begin, std::size_t end, std::byte* out) const;
};

/// Weights that the plan has for good must be the first task's to the last one, or a task would miss its own.
std::map<std::string, Baked> EngineBank::Content::baked_of(const Bank& bank) const {
    std::map<std::string, Baked> baked;
    for (std::size_t i = 0; i < bank.parameters().size(); ++i) {
        const Parameter& parameter = bank.parameters()[i];
        if (changes(weights, parameter.name)) continue;
        const std::size_t size = parameter.size;
        const std::uint8_t* owners = bank.owners_[i].get();
        if (std::any_of(owners, owners + size, [](std::uint8_t owner) { return owner != 1; })) {
            throw Error({}, "weight " + detail::in_quotes(parameter.name),
                        detail::listed(parameter.shape) + " in the plan", "none", kBuildAgain);
        }
        baked[parameter.name] = {parameter.shape, bank.values_[i].get(), size};
    }
    return baked;
}

/// The weights of a bank, typed; its memory goes, parameter by parameter, as ours comes.
void EngineBank::Content::take_banked(Bank bank, unsigned threads) {
    banked.resize(weights.size());
    for (std::size_t i = 0; i < bank.parameters().size(); ++i) {
        const Parameter& parameter = bank.parameters()[i];
        const auto of_it = [&](const SwitchedWeight& weight) { return weight.banked && weight.name == parameter.name; };
        const auto found = std::find_if(weights.begin(), weights.end(), of_it);
        if (found == weights.end()) continue;
        if (found->shape != parameter.shape) {
            throw Error({}, "weight " + detail::in_quotes(parameter.name),
                        detail::listed(parameter.shape) + " in the plan", detail::listed(found->shape), kBuildAgain);
        }
        const SwitchedWeight& weight = *found;
        Banked& target = banked[static_cast<std::size_t>(found - weights.begin())];
        target.values = allocate(weight);
        target.ranks = std::move(bank.owners_[i]);
        const std::unique_ptr<float[]> values = std::move(bank.values_[i]);
        const std::size_t chunks = detail::chunks_of(parameter);
        detail::parallel_for(chunks, threads, [&](std::size_t chunk) {
            const std::size_t begin = chunk * detail::kChunk, end = std::min(weight.size, begin + detail::kChunk);
            detail::convert(weight.name, weight.dtype, values.get(), target.values.get(), begin, end);
            for (std::size_t j = begin; j < end; ++j)  // they were owners until here
                target.ranks[j] = static_cast<std::uint8_t>(target.ranks[j] - 1);
        });
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (!weights[i].banked || banked[i].values) continue;
        throw Error({}, "weight " + detail::in_quotes(weights[i].name), "in the pack's bank, as in the plan", "none",
                    kBuildAgain);
    }
}

void EngineBank::Content::add_side(const Sidecar& plan, Tensors tensors, const std::map<std::string, Baked>& baked,
                                   const std::string& task) {
    for (auto& [name, tensor] : tensors) tensor = padded(name, std::move(tensor), plan.classes);
    const std::string fixed = fixed_sha256(tensors, baked, weights, plan.precision);
    if (fixed != plan.fixed_sha256) {
        throw Error({}, "task " + task + ": what the plan holds for good (fixed_sha256)", plan.fixed_sha256, fixed,
                    kBuildAgain);
    }
    Side side;
    for (const SwitchedWeight& weight : weights) {
        side.emplace_back();
        if (weight.banked) continue;
        const auto found = tensors.find(weight.name);
        if (found == tensors.end()) {
            throw Error({}, "weight " + detail::in_quotes(weight.name), "in task " + task + ", as in the plan", "none",
                        kBuildAgain);
        }
        side.back() = converted(weight, found->second.shape, found->second.values.data());
    }
    sides.push_back(std::move(side));
}

/// A sparse kernel takes no weights that break 2:4, and tasks that were added after the plan was built may.
void EngineBank::Content::check_sparsity(const Sidecar& plan) const {
    for (const SparseLayer& layer : plan.sparsity) {
        const auto of_it = [&](const SwitchedWeight& weight) { return weight.name == layer.name; };
        const auto found = std::find_if(weights.begin(), weights.end(), of_it);
        if (!plan.sparse_weights || !layer.eligible || found == weights.end() || !found->banked) continue;
        const Banked& weight = banked[static_cast<std::size_t>(found - weights.begin())];
        std::vector<std::uint8_t> used(found->size);
        for (std::size_t i = 0; i < used.size(); ++i) used[i] = weight.ranks[i] != kNoRank;
        if (!detail::fits_pattern(found->shape) || !detail::obeys_pattern(used.data(), found->shape)) {
            throw Error({}, "weight " + detail::in_quotes(layer.name), "2:4 sparsity, which its kernel relies on",
                        "a task that breaks it", "build the plan again from this pack, or with --sparsity off");
        }
    }
}

void EngineBank::Content::materialise(int task, std::size_t index, std::size_t begin, std::size_t end,
                                      std::byte* out) const {
    const SwitchedWeight& weight = weights[index];
    const Side& side = sides[static_cast<std::size_t>(task) - 1];
    if (!weight.banked) {
        const std::size_t item = item_size(weight.dtype);
        std::memcpy(out + begin * item, side[index].get() + begin * item, (end - begin) * item);
        return;
    }
    const Banked& from = banked[index];
    detail::mask(weight.dtype, from.values.get(), from.ranks.get(), out, begin, end, static_cast<std::uint8_t>(task));
}

EngineBank::EngineBank(const Deltas& deltas, const Sidecar& plan, unsigned threads) {
    if (plan.weights.empty()) {
        throw Error({}, "switch mode", "refit or bind, whose weights come from a bank", name_of(plan.mode));
    }
    detail::check_task(1, 1, deltas.tasks());
    auto content = std::make_unique<Content>();
    content->weights = plan.weights;
    Bank bank(deltas, threads);
    const std::map<std::string, Baked> baked = content->baked_of(bank);
    for (int task = 1; task <= deltas.tasks(); ++task) {
        TaskContent brought = deltas.content(task);
        if (static_cast<std::int64_t>(brought.classes.size()) > plan.classes) {
            throw Error({}, "task " + std::to_string(task),
                        "at most " + std::to_string(plan.classes) + " classes, the plan's logits",
                        std::to_string(brought.classes.size()), kBuildAgain);
        }
        detail::unfold_norms_in_place(plan.norms, brought.tensors);
        content->add_side(plan, std::move(brought.tensors), baked, std::to_string(task));
    }
    content->take_banked(std::move(bank), threads);
    content->check_sparsity(plan);
    content_ = std::move(content);
}

EngineBank::~EngineBank() = default;
EngineBank::EngineBank(EngineBank&&) noexcept = default;
EngineBank& EngineBank::operator=(EngineBank&&) noexcept = default;

int EngineBank::tasks() const noexcept { return static_cast<int>(content_->sides.size()); }

const std::vector<SwitchedWeight>& EngineBank::weights() const noexcept { return content_->weights; }

const std::byte* EngineBank::values(std::size_t weight) const { return content_->banked.at(weight).values.get(); }

const std::uint8_t* EngineBank::ranks(std::size_t weight) const { return content_->banked.at(weight).ranks.get(); }

const std::byte* EngineBank::tensor(int task, std::size_t weight) const {
    detail::check_task(task, 1, tasks());
    return content_->sides[static_cast<std::size_t>(task) - 1].at(weight).get();
}

void EngineBank::drop_bank() noexcept {
    for (Banked& weight : content_->banked) weight = {};
    content_->dropped = true;
}

void EngineBank::materialise(int task, const std::vector<std::byte*>& out, unsigned threads) const {
    detail::check_task(task, 1, tasks());
    if (content_->dropped) throw Error({}, "bank", "in memory", "dropped");
    if (out.size() != weights().size()) {
        throw Error({}, "outputs", std::to_string(weights().size()) + ", one per weight", std::to_string(out.size()));
    }
    std::vector<detail::Piece> pieces;
    for (std::size_t i = 0; i < out.size(); ++i) {
        for (std::size_t chunk = 0; chunk * detail::kChunk < weights()[i].size; ++chunk) pieces.push_back({i, chunk});
    }
    detail::parallel_for(pieces.size(), threads, [&](std::size_t i) {
        const auto [weight, chunk] = pieces[i];
        const std::size_t begin = chunk * detail::kChunk;
        const std::size_t end = std::min(weights()[weight].size, begin + detail::kChunk);
        content_->materialise(task, weight, begin, end, out[weight]);
    });
}

}  // namespace packnet
