#include "bank_ordering.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "bits.h"
#include "decode.h"
#include "packnet/error.h"
#include "parallel.h"
#include "typed.h"

namespace packnet::detail {
namespace {

constexpr std::size_t kLine = 16;  // bytes: the kernels read values by whole lines
constexpr std::size_t kMostWeights = std::numeric_limits<std::uint32_t>::max();

std::size_t rounded_up(std::size_t count, std::size_t step) { return (count + step - 1) / step * step; }

const Share& share_of(const Chain& chain, std::size_t task, std::size_t parameter) {
    return chain.deltas[task].shares[parameter];
}

}  // namespace

BankOrdering::BankOrdering(const Chain& chain, const Layout& layout, std::vector<BankedWeight> weights)
    : chain_(chain), item_(layout.item), weights_(std::move(weights)), first_(weights_.size()) {
    if (layout.banked > kMostWeights) {
        throw Error({}, "weights that change with the task", "at most " + std::to_string(kMostWeights),
                    std::to_string(layout.banked), "use a plan for each task (--switch none)");
    }
    const std::size_t tasks = chain.deltas.size();
    std::size_t total = 0;
    for (std::size_t task = 0; task < tasks; ++task) {
        for (std::size_t i = 0; i < weights_.size(); ++i) {
            first_[i].push_back(total);
            total += share_of(chain, task, weights_[i].parameter).values.size;
        }
    }
    bank_.tasks = static_cast<int>(tasks);
    bank_.tiles = rounded_up(layout.banked, kTile) / kTile;
    bank_.values.resize(rounded_up(total * item_, kLine));
    bank_.masks.resize(tasks * bank_.tiles * kWords);
}

void BankOrdering::add(std::size_t number, std::uint8_t* owners, unsigned threads) {
    const BankedWeight& banked = weights_[number];
    parallel_for(chunks_of(chain_.parameters[banked.parameter]), threads,
                 [&](std::size_t chunk) { order_chunk(banked, chunk, first_[number], owners); });
}

/// Chunks begin and end with a word of the masks, so that no two threads write to one.
void BankOrdering::order_chunk(const BankedWeight& banked, std::size_t chunk, const std::vector<std::size_t>& first,
                               std::uint8_t* owners) {
    const std::size_t begin = chunk * kChunk, count = std::min(kChunk, banked.weight->size - begin);
    std::vector<float> values(count);
    std::vector<std::byte> typed(count * item_);
    decode_chunk(chain_, banked.parameter, chunk, bank_.tasks, values.data(), owners + begin);
    convert(banked.weight->name, banked.weight->dtype, values.data(), typed.data(), count);

    std::vector<std::size_t> next;  // by task
    for (std::size_t task = 0; task < first.size(); ++task)
        next.push_back(first[task] + share_of(chain_, task, banked.parameter).taken_before[chunk]);
    for (std::size_t i = 0; i < count; ++i) {
        if (owners[begin + i] == 0) continue;
        const std::size_t task = owners[begin + i] - std::size_t{1}, position = banked.start + begin + i;
        if (next[task] == first[task] + share_of(chain_, task, banked.parameter).values.size)
            throw Error(chain_.deltas[task].file.path, "it changed while it was read");
        std::memcpy(&bank_.values[next[task]++ * item_], &typed[i * item_], item_);
        bank_.masks[task * bank_.tiles * kWords + position / 32] |= 1u << position % 32;
    }
}

OrderedBank BankOrdering::take() {
    std::size_t total = 0;
    for (std::size_t row = 0; row < static_cast<std::size_t>(bank_.tasks); ++row) {
        bank_.before.push_back(static_cast<std::uint32_t>(total));
        for (std::size_t tile = 0; tile < bank_.tiles; ++tile) {
            const std::uint32_t* const words = &bank_.masks[(row * bank_.tiles + tile) * kWords];
            for (std::size_t word = 0; word < kWords; ++word)
                total += static_cast<std::size_t>(count_ones(words[word]));
            bank_.before.push_back(static_cast<std::uint32_t>(total));
        }
    }
    return std::move(bank_);
}

}  // namespace packnet::detail
