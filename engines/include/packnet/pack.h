/// @file
/// A pack on disk: what it holds, in what order. Listing it reads pack.json only.
///
/// The deltas' content is in deltas.h, the weights of all tasks in memory in bank.h. The format is docs/format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "packnet/api.h"
#include "packnet/error.h"
#include "packnet/input.h"

namespace packnet {

inline constexpr int kMaxTasks = 255;

/// One packable parameter: the float32 weight of a convolution or a linear layer.
struct Parameter {
    std::string name;                 // as in the training framework, and of the graph's input
    std::vector<std::int64_t> shape;  // 1 to 8 sizes, each at least 1
    std::string pattern;              // "2:4" where all tasks together keep that sparsity, else empty
    std::size_t size;                 // weights: the product of `shape`
};

/// One task as pack.json lists it.
struct PACKNET_API TaskEntry {
    std::string name;
    int index;             // 1, 2, ... in the order of training
    std::int64_t classes;  // how many
    std::string sha256;    // of the delta file, 64 hex digits
    std::int64_t bytes;    // size of the delta file

    /// The delta's path inside the pack: derived, never taken from a file.
    std::string file() const;
};

/// One pack directory as its pack.json was when it was opened. A snapshot: growing the pack never changes a file
/// that it names. A plain value; any number of threads may read it.
struct PACKNET_API Pack {
    std::filesystem::path path;
    InputSpec input;                    // of every task that has none of its own (TaskContent)
    std::string graph_sha256;           // of graph.onnx
    std::vector<Parameter> parameters;  // in pack.json's order, which is that of every list of weights here
    std::vector<TaskEntry> tasks;       // tasks[k - 1] has index k

    /// @throws Error  the pack has no such task; names those it has.
    const TaskEntry& task(std::string_view name) const;
};

/// Open a pack; reads pack.json and nothing else.
/// @throws Error  not a pack, or its pack.json is damaged, of another version, or contradicts itself.
PACKNET_API Pack open_pack(const std::filesystem::path& path);

/// The serialised ONNX graph, its hash checked.
/// @throws Error  missing or damaged.
PACKNET_API std::vector<std::byte> read_graph(const Pack& pack);

}  // namespace packnet
