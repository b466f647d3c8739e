#include "sidecar.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "boundary.h"
#include "json_field.h"
#include "limits.h"
#include "packnet/pack.h"
#include "text.h"

namespace packnet {

using detail::Field;

namespace {

constexpr int kVersion = 1;
constexpr std::int64_t kMaxClasses = 1 << 24;
constexpr std::int64_t kMaxBatch = 1 << 20;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 50;  // of a GPU's memory

template <typename Kind>
Kind one_of(const Field& field, std::initializer_list<Kind> kinds) {
    std::string known;
    for (Kind kind : kinds) {
        if (field.value == name_of(kind)) return kind;
        known += (known.empty() ? "" : ", ") + std::string(name_of(kind));
    }
    field.refuse("one of " + known);
}

Precision parse_precision(const Field& field) {
    return one_of(field, {Precision::fp32, Precision::fp16, Precision::bf16});
}

std::optional<BuildGpu> parse_gpu(const Field& field) {
    if (field.value.is_null()) return std::nullopt;
    field.has_only({"name", "compute_capability", "driver", "memory"});
    return BuildGpu{field.at("name").printable(), field.at("compute_capability").printable(),
                    field.at("driver").printable(), field.at("memory").integer(0, kMaxBytes)};
}

BatchRange parse_batch(const Field& field) {
    field.has_only({"least", "best", "most"});
    const auto least = static_cast<int>(field.at("least").integer(1, kMaxBatch));
    const auto best = static_cast<int>(field.at("best").integer(least, kMaxBatch));
    return {least, best, static_cast<int>(field.at("most").integer(best, kMaxBatch))};
}

PlanTask parse_task(const Field& field) {
    field.has_only({"name", "index", "classes", "sha256"});
    return {field.at("name").text(detail::is_task_name, "a task's name"),
            static_cast<int>(field.at("index").integer(1, kMaxTasks)), field.at("classes").integer(1, kMaxClasses),
            field.at("sha256").sha256()};
}

SwitchedWeight parse_weight(const Field& field) {
    field.has_only({"name", "shape", "dtype", "banked"});
    SwitchedWeight weight{field.at("name").printable(), field.at("shape").shape(), parse_precision(field.at("dtype")),
                          field.at("banked").truth(), 0};
    weight.size = *detail::size_of(weight.shape);
    return weight;
}

/// The channels, -1, and a 1 for every dimension behind them.
std::vector<std::int64_t> parse_channels(const Field& field) {
    std::vector<std::int64_t> sizes;
    for (const Field& size : field.items(detail::kMaxDimensions)) sizes.push_back(size.integer(-1, 1));
    const auto ones = static_cast<std::size_t>(std::count(sizes.begin(), sizes.end(), 1));
    if (sizes.empty() || sizes[0] != -1 || ones != sizes.size() - 1) field.refuse("-1, then 1s");
    return sizes;
}

Norm parse_norm(const Field& field) {
    field.has_only({"scale", "shift", "norm", "freed", "epsilon", "shape"});
    const std::vector<Field> norm = field.at("norm").items(4);
    if (norm.size() != 4) field.at("norm").refuse("4 names");
    const Field epsilon = field.at("epsilon");
    if (!epsilon.value.is_number() || !(epsilon.value.number() >= 0)) epsilon.refuse("a number from 0");
    return {field.at("scale").printable(),
            field.at("shift").printable(),
            {norm[0].printable(), norm[1].printable(), norm[2].printable(), norm[3].printable()},
            field.at("freed").printables(),
            epsilon.value.number(),
            parse_channels(field.at("shape"))};
}

SparseLayer parse_layer(const Field& field) {
    field.has_only({"name", "eligible", "promised", "picked"});
    const Field picked = field.at("picked");
    return {field.at("name").printable(), field.at("eligible").truth(), field.at("promised").truth(),
            picked.value.is_null() ? std::nullopt : std::optional<bool>(picked.truth())};
}

/// Without this, a name that is misspelt would let a sparse kernel have weights that nobody has checked.
void check_sparsity(const std::string& file, const Sidecar& sidecar) {
    std::set<std::string_view> layers, banked;
    for (const SparseLayer& layer : sidecar.sparsity) {
        if (layers.insert(layer.name).second) continue;
        throw Error(file, "sparsity: layer " + detail::in_quotes(layer.name) + " is listed twice");
    }
    for (const SwitchedWeight& weight : sidecar.weights) {
        if (weight.banked) banked.insert(weight.name);
    }
    if (!sidecar.weights.empty() && layers != banked) {
        throw Error(file, "sparsity", "the names of the banked weights, each once", "others");
    }
}

/// What no single field can say.
void check_agreement(const std::string& file, const Sidecar& sidecar) {
    if (sidecar.tasks.empty()) throw Error(file, "tasks", "at least one", "none");
    if (sidecar.mode == Switch::none && sidecar.tasks.size() != 1) {
        throw Error(file, "tasks", "one, for the switch mode none", std::to_string(sidecar.tasks.size()));
    }
    for (std::size_t i = 0; sidecar.mode != Switch::none && i < sidecar.tasks.size(); ++i) {
        if (sidecar.tasks[i].index == static_cast<int>(i) + 1) continue;
        throw Error(file, "tasks[" + std::to_string(i) + "].index", std::to_string(i + 1),
                    std::to_string(sidecar.tasks[i].index));
    }
    for (const PlanTask& task : sidecar.tasks) {
        if (task.classes > sidecar.classes) {
            throw Error(file, "classes", std::to_string(task.classes) + " or more for task " + task.name,
                        std::to_string(sidecar.classes));
        }
    }
    const bool given = sidecar.mode == Switch::refit || sidecar.mode == Switch::bind;
    if (given == sidecar.weights.empty()) {
        throw Error(file, "weights", std::string(given ? "some" : "none") + " for switch mode " + name_of(sidecar.mode),
                    std::to_string(sidecar.weights.size()));
    }
    std::set<std::string_view> names;
    std::size_t total = 0;
    for (const SwitchedWeight& weight : sidecar.weights) {
        total += weight.size;
        if (total > static_cast<std::size_t>(detail::kMaxWeights)) {
            throw Error(file, "weights", "at most 2^40 in all", "more");
        }
        if (weight.dtype != sidecar.precision) {
            throw Error(file, "dtype of weight " + detail::in_quotes(weight.name), name_of(sidecar.precision),
                        name_of(weight.dtype));
        }
        if (!names.insert(weight.name).second) {
            throw Error(file, "weight " + detail::in_quotes(weight.name) + " is listed twice");
        }
    }
    check_sparsity(file, sidecar);
}

}  // namespace

std::size_t item_size(Precision precision) noexcept { return precision == Precision::fp32 ? 4 : 2; }

const char* name_of(Precision precision) noexcept {
    return precision == Precision::fp32 ? "fp32" : precision == Precision::fp16 ? "fp16" : "bf16";
}

const char* name_of(Switch mode) noexcept {
    switch (mode) {
        case Switch::refit: return "refit";
        case Switch::bind: return "bind";
        case Switch::selector: return "selector";
        case Switch::none: break;
    }
    return "none";
}

std::filesystem::path sidecar_path(const std::filesystem::path& plan) { return plan.string() + ".json"; }

Sidecar read_sidecar(const std::filesystem::path& plan) try {
    const std::filesystem::path path = sidecar_path(plan);
    const detail::MappedFile file(path, "no such file; a plan needs the sidecar that packnet build wrote beside it");
    return detail::parse_sidecar(path.string(), file.bytes());
} catch (...) {
    detail::rethrow_as_error(plan);
}

Sidecar detail::parse_sidecar(const std::string& name, Bytes file) {
    if (file.size > kMaxManifestBytes) {
        throw Error(name, "size", "at most 64 MiB", std::to_string(file.size) + " bytes");
    }
    const Json json = parse_json(file.text(), name, "damaged");
    const Field document{name, "", json};
    document.at("format").must_be("packnet-plan");
    const Field version = document.at("version");
    if (version.value.integer() != kVersion) {
        throw Error(name, "sidecar version: this library reads version 1", {}, shown(version.value),
                    "build the plan again, or use the release that did");
    }
    document.has_only({"format",         "version",      "flavour",      "tensorrt",    "gpu",
                       "switch",         "precision",    "batch",        "input",       "compute_capabilities",
                       "classes",        "fixed_sha256", "graph_sha256", "onnx_sha256", "tasks",
                       "weights",        "norms",        "sparsity",     "plan_sha256", "plan_bytes",
                       "sparse_weights", "tf32"});
    const auto known = [](std::string_view text) { return text == "tensorrt" || text == "tensorrt-rtx"; };
    Sidecar sidecar{document.at("flavour").text(known, "tensorrt or tensorrt-rtx"),
                    document.at("tensorrt").printable(),
                    parse_gpu(document.at("gpu")),
                    document.at("compute_capabilities").printables(),
                    one_of(document.at("switch"), {Switch::refit, Switch::bind, Switch::selector, Switch::none}),
                    parse_precision(document.at("precision")),
                    parse_batch(document.at("batch")),
                    parse_input(document.at("input")),
                    static_cast<int>(document.at("classes").integer(1, kMaxClasses)),
                    document.at("fixed_sha256").sha256(),
                    document.at("graph_sha256").sha256(),
                    document.at("onnx_sha256").sha256(),
                    {},
                    {},
                    {},
                    document.at("sparse_weights").truth(),
                    document.at("tf32").truth(),
                    {},
                    document.at("plan_sha256").sha256(),
                    document.at("plan_bytes").count()};
    document.at("tasks").for_each([&](const Field& item) { sidecar.tasks.push_back(parse_task(item)); });
    document.at("weights").for_each([&](const Field& item) { sidecar.weights.push_back(parse_weight(item)); });
    document.at("norms").for_each([&](const Field& item) { sidecar.norms.push_back(parse_norm(item)); });
    document.at("sparsity").for_each([&](const Field& item) { sidecar.sparsity.push_back(parse_layer(item)); });
    check_agreement(name, sidecar);
    return sidecar;
}

}  // namespace packnet
