#include "packnet/bank.h"

#include <algorithm>
#include <new>

#include "boundary.h"
#include "decode.h"
#include "parallel.h"
#include "pattern.h"
#include "pieces.h"
#include "sha256.h"
#include "text.h"

namespace packnet {
namespace {

template <typename T>
std::unique_ptr<T[]> allocate(const Parameter& parameter) {
    std::unique_ptr<T[]> memory(new (std::nothrow) T[parameter.size]);
    if (!memory) {
        throw EnvironmentFault({}, "parameter " + detail::in_quotes(parameter.name),
                               "memory for " + std::to_string(parameter.size) + " weights", "none",
                               "use a larger machine");
    }
    return memory;
}

/// What a task sees of a stretch of the bank. Every value is read, owned or not: without a branch that depends on
/// owners, which no processor could predict, compilers make vector instructions of it.
void mask_into(float* out, const float* values, const std::uint8_t* owners, std::size_t count, std::uint8_t task) {
    for (std::size_t i = 0; i < count; ++i) {
        // One comparison for 0 < owner <= task: a free weight's 0 - 1 wraps round to 255, which is below no task.
        const bool owned = static_cast<std::uint8_t>(owners[i] - 1) < task;
        const float value = values[i];
        out[i] = owned ? value : 0.0f;
    }
}

}  // namespace

Bank::Bank(const Deltas& deltas, unsigned threads) try : tasks_(deltas.tasks()), parameters_(deltas.parameters()) {
    for (const Parameter& parameter : parameters_) {
        values_.push_back(allocate<float>(parameter));
        owners_.push_back(allocate<std::uint8_t>(parameter));
    }
    const detail::Chain& chain = detail::chain_of(deltas);
    const std::vector<detail::Piece> pieces = detail::pieces_of(parameters_);
    detail::parallel_for(pieces.size(), threads, [&](std::size_t i) {
        const auto [parameter, chunk] = pieces[i];
        const std::size_t begin = chunk * detail::kChunk;
        detail::decode_chunk(chain, parameter, chunk, tasks_, &values_[parameter][begin], &owners_[parameter][begin]);
    });
    detail::parallel_for(parameters_.size(), threads,
                         [&](std::size_t i) { detail::expect_promised_pattern(parameters_[i], owners_[i].get()); });
    if (tasks_ == 0) return;
    for (const auto& [name, entry] : chain.deltas.front().file.entries) {  // by rising name
        if (name.rfind("shared/", 0) == 0) shared_.push_back({entry.shape, detail::read_floats(entry)});
    }
} catch (...) {
    detail::rethrow_as_error({});
}

void Bank::materialise(int task, const std::vector<float*>& out, unsigned threads) const try {
    detail::check_task(task, 1, tasks_);
    detail::check_outputs(out, parameters_);
    const std::vector<detail::Piece> pieces = detail::pieces_of(parameters_);
    detail::parallel_for(pieces.size(), threads, [&](std::size_t i) {
        const std::size_t parameter = pieces[i].parameter, begin = pieces[i].chunk * detail::kChunk;
        const std::size_t count = std::min(detail::kChunk, parameters_[parameter].size - begin);
        mask_into(out[parameter] + begin, values(parameter) + begin, owners(parameter) + begin, count,
                  static_cast<std::uint8_t>(task));
    });
} catch (...) {
    detail::rethrow_as_error({});
}

std::string Bank::sha256(int through) const try {
    detail::check_task(through, 0, tasks_);
    detail::Sha256 hash;
    if (through == 0) return hash.hex();
    std::vector<float> owned;
    owned.reserve(detail::kChunk);
    for (const detail::Piece& piece : detail::pieces_of(parameters_)) {
        const std::size_t begin = piece.chunk * detail::kChunk;
        const std::size_t end = std::min(begin + detail::kChunk, parameters_[piece.parameter].size);
        owned.clear();
        for (std::size_t i = begin; i < end; ++i) {
            const int owner = owners(piece.parameter)[i];
            if (0 < owner && owner <= through) owned.push_back(values(piece.parameter)[i]);
        }
        hash.update(owned.data(), owned.size() * sizeof(float));
    }
    for (const Tensor& tensor : shared_) hash.update(tensor.values.data(), tensor.values.size() * sizeof(float));
    return hash.hex();
} catch (...) {
    detail::rethrow_as_error({});
}

}  // namespace packnet
