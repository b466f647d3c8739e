/// @file
/// What is known of a plan (a serialised TensorRT engine) before it is read: the JSON file beside it.
///
/// `packnet build` writes it; its schema is docs/engines.md's. It is checked before the plan is touched (check_plan.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "mapped_file.h"
#include "packnet/error.h"
#include "packnet/input.h"

namespace packnet {

/// Type of an engine's weights and activations; images and logits are float32 whatever it is.
enum class Precision { fp32, fp16, bf16 };

/// Bytes of one weight.
std::size_t item_size(Precision precision) noexcept;

/// How an engine becomes another task.
enum class Switch {
    refit,     // its weights are replaced
    bind,      // weights are inputs; their buffers are rewritten
    selector,  // the task is an input, weights are masked at each run
    none,      // it is of one task for good
};

const char* name_of(Precision precision) noexcept;
const char* name_of(Switch mode) noexcept;

/// The GPU that a plan was built on.
struct BuildGpu {
    std::string name;
    std::string compute_capability;  // "8.6"
    std::string driver;              // the newest CUDA that its driver supports, "13.0"
    std::int64_t memory;             // bytes
};

/// Images a request may hold; the kernels suit `best`. 1 <= least <= best <= most.
struct BatchRange {
    int least, best, most;
};

/// A task that the plan was built from.
struct PlanTask {
    std::string name;
    int index;             // in the pack, 1, 2, ...
    std::int64_t classes;  // how many
    std::string sha256;    // of its delta
};

/// A tensor of the engine that changes with the task: masked out of the bank, or brought whole by each task.
struct SwitchedWeight {
    std::string name;  // of the graph's input and in the engine
    std::vector<std::int64_t> shape;
    Precision dtype;
    bool banked;
    std::size_t size;  // weights: the product of `shape`

    std::size_t bytes() const noexcept { return size * item_size(dtype); }
};

/// A normalisation that is a scale and a shift in the engine: `scale = gamma / sqrt(var + epsilon)`,
/// `shift = beta - mean scale`.
struct Norm {
    std::string scale, shift;         // the tensors that take its place
    std::array<std::string, 4> norm;  // names of gamma, beta, mean, variance
    std::vector<std::string> freed;   // those of `norm` that nothing reads any more
    double epsilon;
    std::vector<std::int64_t> shape;  // of scale and shift: -1 for the channels, then 1s
};

/// A banked weight in the sparsity plan.
struct SparseLayer {
    std::string name;
    bool eligible;               // all tasks together keep to 2:4, so that a sparse kernel may run it
    bool promised;               // so will later ones
    std::optional<bool> picked;  // TensorRT chose a sparse kernel; nothing where it did not tell
};

/// All that is known of a plan. A plain value.
struct Sidecar {
    std::string flavour;                            // "tensorrt" or "tensorrt-rtx"
    std::string tensorrt;                           // its version: the only one that may load the plan
    std::optional<BuildGpu> gpu;                    // where it was built; nothing where no GPU took part
    std::vector<std::string> compute_capabilities;  // of the GPUs that it runs on: "8.6"
    Switch mode;
    Precision precision;
    BatchRange batch;
    InputSpec input;  // the pack's, at the plan's image size; a task may have its own (Engine::input)
    int classes;      // logits of the engine; those beyond a task's own mean nothing
    std::string fixed_sha256, graph_sha256, onnx_sha256;
    std::vector<PlanTask> tasks;          // of the pack when the plan was built; of a plan of one task, that one
    std::vector<SwitchedWeight> weights;  // empty for selector and none
    std::vector<Norm> norms;
    bool sparse_weights;  // TensorRT was free to choose sparse kernels
    bool tf32;            // and to use TF32
    std::vector<SparseLayer> sparsity;
    std::string plan_sha256;
    std::int64_t plan_bytes;
};

/// `birds.plan.json` for `birds.plan`.
std::filesystem::path sidecar_path(const std::filesystem::path& plan);

/// The sidecar of `plan`, every field there, of its type, and no other; nothing is held against the plan yet.
/// @throws Error  there is none, or it is damaged or of another version.
Sidecar read_sidecar(const std::filesystem::path& plan);

namespace detail {

/// The same from bytes, so that it can be tested and fuzzed without a disk.
/// @param name     of the file, for messages.
/// @throws Error   malformed, of another version, or contradicting itself.
Sidecar parse_sidecar(const std::string& name, Bytes file);

}  // namespace detail
}  // namespace packnet
