#include "fixed_weights.h"

#include <algorithm>

#include "decode.h"
#include "packnet/error.h"
#include "parallel.h"
#include "sha256.h"
#include "text.h"
#include "typed.h"

namespace packnet::detail {
namespace {

constexpr const char* kBuildAgain = "build the plan again from this pack";

const char* numpys_name_of(Precision type) {
    return type == Precision::fp32 ? "float32" : type == Precision::fp16 ? "float16" : "bfloat16";
}

}  // namespace

TypedTensor typed(const std::string& name, const Tensor& tensor, Precision type) {
    TypedTensor made{tensor.shape, std::vector<std::byte>(tensor.values.size() * item_size(type))};
    convert(name, type, tensor.values.data(), made.values.data(), tensor.values.size());
    return made;
}

void FixedWeights::add_parameter(const Chain& chain, std::size_t number, unsigned threads) {
    const Parameter& parameter = chain.parameters[number];
    Tensor tensor{parameter.shape, std::vector<float>(parameter.size)};
    std::vector<std::uint8_t> owners(parameter.size);
    parallel_for(chunks_of(parameter), threads, [&](std::size_t chunk) {
        decode_chunk(chain, number, chunk, static_cast<int>(chain.deltas.size()), &tensor.values[chunk * kChunk],
                     &owners[chunk * kChunk]);
    });
    if (std::any_of(owners.begin(), owners.end(), [](std::uint8_t owner) { return owner != 1; })) {
        throw Error({}, "weight " + in_quotes(parameter.name), listed(parameter.shape) + " in the plan", "none",
                    kBuildAgain);
    }
    tensors_[parameter.name] = typed(parameter.name, tensor, type_);
}

void FixedWeights::add_tensor(int task, const std::string& name, const Tensor& tensor) {
    TypedTensor made = typed(name, tensor, type_);
    const auto [known, is_new] = tensors_.try_emplace(name, made);
    if (is_new || (known->second.shape == made.shape && known->second.values == made.values)) return;
    throw Error({}, "task " + std::to_string(task) + ": what the plan holds for good, tensor " + in_quotes(name),
                "the first task's", "another", kBuildAgain);
}

void FixedWeights::check(const std::string& sha256) const {
    Sha256 hash;
    for (const auto& [name, tensor] : tensors_) {
        std::string line = name + ' ' + numpys_name_of(type_) + ' ';
        for (std::size_t i = 0; i < tensor.shape.size(); ++i) line += (i ? " " : "") + std::to_string(tensor.shape[i]);
        line += '\n';
        hash.update(line.data(), line.size());
        hash.update(tensor.values.data(), tensor.values.size());
    }
    const std::string got = hash.hex();
    if (got != sha256) throw Error({}, "what the plan holds for good (fixed_sha256)", sha256, got, kBuildAgain);
}

std::size_t FixedWeights::bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& [name, tensor] : tensors_) sum += tensor.values.size();
    return sum;
}

}  // namespace packnet::detail
