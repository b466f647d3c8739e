#include "packnet/pack.h"

#include <cstdio>

#include "boundary.h"
#include "limits.h"
#include "manifest.h"
#include "mapped_file.h"
#include "text.h"

namespace packnet {

std::string TaskEntry::file() const {
    char prefix[32];
    std::snprintf(prefix, sizeof prefix, "deltas/%04d-", index);
    return prefix + name + ".safetensors";
}

const TaskEntry& Pack::task(std::string_view name) const try {
    std::string known;
    for (const TaskEntry& entry : tasks) {
        if (entry.name == name) return entry;
        known += (known.empty() ? "" : ", ") + entry.name;
    }
    throw Error(path.string(), "task", known.empty() ? "none: it has no tasks yet" : "one of " + known,
                detail::in_quotes(name));
} catch (...) {
    detail::rethrow_as_error(path);
}

Pack open_pack(const std::filesystem::path& path) try {
    const detail::MappedFile file(path, "pack.json", "no such file, so the folder is not a pack");
    return detail::parse_manifest(path, file.bytes());
} catch (...) {
    detail::rethrow_as_error(path);
}

std::vector<std::byte> read_graph(const Pack& pack) try {
    const detail::MappedFile file(pack.path, "graph.onnx", "no such file; the pack is incomplete");
    if (const std::size_t size = file.bytes().size; size > detail::kMaxGraphBytes) {
        throw Error((pack.path / "graph.onnx").string(), "size", "at most " + std::to_string(detail::kMaxGraphBytes) + " bytes",
                    std::to_string(size));
    }
    file.check_sha256(pack.graph_sha256);
    return {file.bytes().data, file.bytes().data + file.bytes().size};
} catch (...) {
    detail::rethrow_as_error(pack.path);
}

}  // namespace packnet
