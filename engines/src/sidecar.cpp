#include "sidecar.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "field.h"
#include "limits.h"
#include "packnet/pack.h"
#include "text.h"

namespace packnet {

using detail::Field;

namespace {

constexpr int kVersion = 1;
constexpr std::int64_t kMaxClasses = 1 << 24;
constexpr std::int64_t kMaxBatch = 1 << 20;

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

std::vector<std::string> parse_texts(const Field& field) {
    std::vector<std::string> texts;
    for (const Field& item : field.items()) texts.push_back(item.printable());
    return texts;
}

BatchRange parse_batch(const Field& field) {
    const auto least = static_cast<int>(field.at("least").integer(1, kMaxBatch));
    const auto best = static_cast<int>(field.at("best").integer(least, kMaxBatch));
    return {least, best, static_cast<int>(field.at("most").integer(best, kMaxBatch))};
}

PlanTask parse_task(const Field& field) {
    return {field.at("name").text(detail::is_task_name, "a task's name"),
            static_cast<int>(field.at("index").integer(1, kMaxTasks)), field.at("classes").integer(1, kMaxClasses),
            field.at("sha256").sha256()};
}

SwitchedWeight parse_weight(const Field& field) {
    SwitchedWeight weight{
        field.at("name").printable(), {}, parse_precision(field.at("dtype")), field.at("banked").truth(), 0};
    for (const Field& size : field.at("shape").items()) weight.shape.push_back(size.integer(1, detail::kMaxWeights));
    const auto size = detail::size_of(weight.shape);
    if (weight.shape.empty() || !size) field.at("shape").refuse("1 to 8 sizes that a network can have");
    weight.size = *size;
    return weight;
}

/// The channels, -1, and a 1 for every dimension behind them.
std::vector<std::int64_t> parse_channels(const Field& field) {
    std::vector<std::int64_t> sizes;
    for (const Field& size : field.items()) sizes.push_back(size.integer(-1, 1));
    const auto ones = static_cast<std::size_t>(std::count(sizes.begin(), sizes.end(), 1));
    if (sizes.empty() || sizes[0] != -1 || ones != sizes.size() - 1 || sizes.size() >= detail::kMaxDimensions) {
        field.refuse("-1, then 1s");
    }
    return sizes;
}

Norm parse_norm(const Field& field) {
    const std::vector<std::string> norm = parse_texts(field.at("norm"));
    if (norm.size() != 4) field.at("norm").refuse("4 names");
    const Field epsilon = field.at("epsilon");
    if (!epsilon.value.is_number() || !(epsilon.value.get<double>() >= 0)) epsilon.refuse("a number from 0");
    return {field.at("scale").printable(),        field.at("shift").printable(),
            {norm[0], norm[1], norm[2], norm[3]}, parse_texts(field.at("freed")),
            epsilon.value.get<double>(),          parse_channels(field.at("shape"))};
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

Sidecar read_sidecar(const std::filesystem::path& plan) {
    const std::filesystem::path path = sidecar_path(plan);
    const detail::MappedFile file(path, "no such file; a plan needs the sidecar that packnet build wrote beside it");
    return detail::parse_sidecar(path.string(), file.bytes());
}

Sidecar detail::parse_sidecar(const std::string& name, Bytes file) {
    if (file.size > kMaxManifestBytes) {
        throw Error(name, "size", "at most 64 MiB", std::to_string(file.size) + " bytes");
    }
    const Json json = parse_json(file.text(), name, "damaged");
    const Field document{name, "", json};
    document.at("format").must_be("packnet-plan");
    const Field version = document.at("version");
    if (!version.value.is_number_integer() || version.value != kVersion) {
        throw Error(name, "sidecar version: this library reads version 1", {}, shown(version.value),
                    "build the plan again, or use the release that did");
    }
    Sidecar sidecar{document.at("flavour").printable(),
                    document.at("tensorrt").printable(),
                    parse_texts(document.at("compute_capabilities")),
                    one_of(document.at("switch"), {Switch::refit, Switch::bind, Switch::selector, Switch::none}),
                    parse_precision(document.at("precision")),
                    parse_batch(document.at("batch")),
                    parse_input(document.at("input")),
                    static_cast<int>(document.at("classes").integer(1, kMaxClasses)),
                    document.at("fixed_sha256").sha256(),
                    document.at("graph_sha256").sha256(),
                    {},
                    {},
                    {},
                    document.at("sparse_weights").truth(),
                    {},
                    document.at("plan_sha256").sha256(),
                    document.at("plan_bytes").count()};
    for (const Field& item : document.at("tasks").items()) sidecar.tasks.push_back(parse_task(item));
    for (const Field& item : document.at("weights").items()) sidecar.weights.push_back(parse_weight(item));
    for (const Field& item : document.at("norms").items()) sidecar.norms.push_back(parse_norm(item));
    for (const Field& item : document.at("sparsity").items()) {
        sidecar.sparsity.push_back({item.at("name").printable(), item.at("eligible").truth()});
    }
    check_agreement(name, sidecar);
    return sidecar;
}

}  // namespace packnet
