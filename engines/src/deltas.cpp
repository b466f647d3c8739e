#include "packnet/deltas.h"

#include <utility>

#include "boundary.h"
#include "chain.h"
#include "decode.h"
#include "parallel.h"
#include "pieces.h"

namespace packnet {
namespace {

using detail::MappedFile;

/// Map the files of tasks 1..through and hold their sizes and hashes against pack.json; sizes first, which cost
/// nothing.
std::vector<MappedFile> map_files(const Pack& pack, std::size_t through, unsigned threads) {
    std::vector<MappedFile> files;
    for (std::size_t i = 0; i < through; ++i) {
        files.emplace_back(pack.path, pack.tasks[i].file(), "no such file; the pack is incomplete");
        const std::string got = std::to_string(files[i].bytes().size), expected = std::to_string(pack.tasks[i].bytes);
        if (got != expected)
            throw Error((pack.path / pack.tasks[i].file()).string(), "size", expected + " bytes as in pack.json", got);
    }
    detail::parallel_for(through, threads, [&](std::size_t i) { files[i].check_sha256(pack.tasks[i].sha256); });
    return files;
}

/// Copy the tensors of one group ("head/", "own/", "shared/") to `target`, the group's name replaced by `prefix`.
void copy_group(const detail::TensorFile& file, std::string_view group, const std::string& prefix,
                std::map<std::string, Tensor>& target) {
    for (const auto& [name, entry] : file.entries) {
        if (name.compare(0, group.size(), group) == 0) {
            target[prefix + name.substr(group.size())] = {entry.shape, detail::read_floats(entry)};
        }
    }
}

}  // namespace

Deltas::Deltas(const Pack& pack, int through, unsigned threads) try {
    const int tasks = static_cast<int>(pack.tasks.size());
    if (through < -1 || through > tasks) {
        throw Error(pack.path.string(), "last task", "0.." + std::to_string(tasks), std::to_string(through));
    }
    std::vector<MappedFile> files = map_files(pack, static_cast<std::size_t>(through < 0 ? tasks : through), threads);
    std::vector<detail::Bytes> contents;
    for (const MappedFile& file : files) contents.push_back(file.bytes());
    auto chain = std::make_unique<detail::Chain>(detail::check_chain(pack, contents));
    chain->mappings = std::move(files);
    chain_ = std::move(chain);
} catch (...) {
    detail::rethrow_as_error(pack.path);
}

Deltas::~Deltas() = default;
Deltas::Deltas(Deltas&&) noexcept = default;
Deltas& Deltas::operator=(Deltas&&) noexcept = default;

int Deltas::tasks() const noexcept { return static_cast<int>(chain_->deltas.size()); }

const std::vector<Parameter>& Deltas::parameters() const noexcept { return chain_->parameters; }

TaskContent Deltas::content(int task) const try {
    detail::check_task(task, 1, tasks());
    const detail::Delta& delta = chain_->deltas[static_cast<std::size_t>(task) - 1];
    const detail::TensorEntry& probe = *delta.file.find("probe/logits");
    TaskContent content{delta.header.classes,
                        {},
                        {probe.shape, detail::read_floats(probe)},
                        delta.header.frozen_sha256,
                        delta.header.report,
                        delta.header.input.value_or(chain_->input)};
    content.tensors = shared();
    copy_group(delta.file, "own/", "", content.tensors);
    copy_group(delta.file, "head/", "head.", content.tensors);
    return content;
} catch (...) {
    detail::rethrow_as_error({});
}

std::map<std::string, Tensor> Deltas::shared() const {
    std::map<std::string, Tensor> tensors;
    copy_group(chain_->deltas.front().file, "shared/", "", tensors);
    return tensors;
}

void Deltas::materialise(int task, const std::vector<float*>& out, unsigned threads) const try {
    detail::check_task(task, 1, tasks());
    detail::check_outputs(out, parameters());
    const std::vector<detail::Piece> pieces = detail::pieces_of(parameters());
    detail::parallel_for(pieces.size(), threads, [&](std::size_t i) {
        const auto [parameter, chunk] = pieces[i];
        detail::decode_chunk(*chain_, parameter, chunk, task, out[parameter] + chunk * detail::kChunk, nullptr);
    });
} catch (...) {
    detail::rethrow_as_error({});
}

const detail::Chain& detail::chain_of(const Deltas& deltas) noexcept { return *deltas.chain_; }

}  // namespace packnet
