#include "toy_plans.h"

#include <fstream>
#include <sstream>

#include "engine_weights.h"
#include "sha256.h"

using packnet::Deltas;
using packnet::Norm;
using packnet::Sidecar;
using packnet::Switch;
using packnet::SwitchedWeight;
using packnet::detail::EngineWeights;

namespace {

const char* type_name(packnet::Precision precision) { return packnet::name_of(precision); }

/// Every tensor is switched: the golden pack's banked ones, and what tasks bring whole.
std::vector<SwitchedWeight> weights_of(const packnet::Pack& pack, const ToyOptions& options) {
    std::vector<SwitchedWeight> weights;
    for (const packnet::Parameter& parameter : pack.parameters) {
        weights.push_back({parameter.name, parameter.shape, options.precision, true, parameter.size});
    }
    const auto classes = static_cast<std::int64_t>(options.classes);
    const std::pair<const char*, std::vector<std::int64_t>> whole[] = {
        {"norm.scale", {5, 1, 1}}, {"norm.shift", {5, 1, 1}},           {"fire.squeeze.bias", {3}},
        {"fire.expand.bias", {7}}, {"head.weight", {classes, 7, 1, 1}}, {"head.bias", {classes}}};
    for (const auto& [name, shape] : whole) {
        std::size_t size = 1;
        for (std::int64_t side : shape) size *= static_cast<std::size_t>(side);
        weights.push_back({name, shape, options.precision, false, size});
    }
    return weights;
}

Sidecar sidecar_of(const packnet::Pack& pack, const ToyOptions& options) {
    Sidecar sidecar{};
    sidecar.mode = options.mode;
    sidecar.precision = options.precision;
    sidecar.batch = options.batch;
    sidecar.input = pack.input;
    sidecar.classes = options.classes;
    sidecar.fixed_sha256 = packnet::detail::sha256("", 0);
    sidecar.graph_sha256 = pack.graph_sha256;
    for (const packnet::TaskEntry& task : pack.tasks) {
        const bool is_in = options.mode == Switch::none ? task.index == options.task : task.index <= options.built_from;
        if (is_in) sidecar.tasks.push_back({task.name, task.index, task.classes, task.sha256});
    }
    sidecar.weights = weights_of(pack, options);
    sidecar.norms.push_back({"norm.scale",
                             "norm.shift",
                             {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"},
                             {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"},
                             1e-5,
                             {-1, 1, 1}});
    return sidecar;
}

/// What an engine of `task` is given for each weight.
std::vector<std::vector<std::byte>> values_of(const EngineWeights& made, int task) {
    const packnet::detail::Layout& layout = made.layout;
    std::vector<std::byte> all(layout.banked * layout.item);
    packnet::detail::switch_in_place(all.data(), made.bank, layout.item, 0, task);
    const std::vector<std::byte>& own = made.own[static_cast<std::size_t>(task) - 1];
    all.insert(all.end(), own.begin(), own.end());
    std::vector<std::vector<std::byte>> values;
    for (std::size_t i = 0; i < made.weights.size(); ++i) {
        const std::byte* const first = &all[layout.starts[i] * layout.item];
        values.emplace_back(first, first + made.weights[i].bytes());
    }
    return values;
}

ToyPlan plan_of(const packnet::Pack& pack, const Sidecar& sidecar, const ToyOptions& options) {
    ToyPlan plan;
    plan.images = {pack.input.channels, pack.input.height, pack.input.width};
    plan.batch = {options.batch.least, options.batch.most};
    plan.logits = options.classes;
    plan.has_task = options.mode == Switch::selector;
    plan.convs = {{"conv1.weight", "norm.shift", 2, 0, "norm.scale"},
                  {"fire.squeeze.weight", "fire.squeeze.bias", 1, 0, "-"},
                  {"fire.expand.weight", "fire.expand.bias", 1, 1, "-"},
                  {"head.weight", "head.bias", 1, 0, "-"}};
    const bool inside = options.mode == Switch::selector || options.mode == Switch::none;
    const char* const source = inside ? "inside" : options.mode == Switch::bind ? "input" : "refit";
    for (const SwitchedWeight& weight : sidecar.weights) {
        plan.weights.push_back({weight.name, type_name(weight.dtype), source, weight.shape, {}});
    }
    if (!inside) return plan;
    const EngineWeights made = packnet::detail::engine_weights(Deltas(pack), sidecar, 0);
    for (const packnet::PlanTask& task : sidecar.tasks) {
        std::vector<std::vector<std::byte>> values = values_of(made, task.index);
        for (std::size_t i = 0; i < values.size(); ++i) plan.weights[i].values.push_back(std::move(values[i]));
    }
    return plan;
}

std::string quoted(const std::string& text) { return '"' + text + '"'; }

template <typename Items, typename Shown>
std::string list_of(const Items& items, const Shown& shown) {
    std::string list;
    for (const auto& item : items) list += (list.empty() ? "" : ", ") + shown(item);
    return '[' + list + ']';
}

std::string numbers(const std::vector<std::int64_t>& values) {
    return list_of(values, [](std::int64_t value) { return std::to_string(value); });
}

std::string text_of(bool value) { return value ? "true" : "false"; }

/// The `input` of a pack.json, as it stands there.
std::string input_text(const packnet::Pack& pack) {
    std::ostringstream text;
    text << std::ifstream(pack.path / "pack.json").rdbuf();
    const std::string all = text.str();
    const std::size_t begin = all.find('{', all.find("\"input\""));
    return all.substr(begin, all.find('}', begin) + 1 - begin);
}

std::string json_of(const Sidecar& sidecar, const packnet::Pack& pack, const std::string& plan) {
    const bool switched = sidecar.mode == Switch::bind || sidecar.mode == Switch::refit;
    const auto names = [](const auto& all) { return list_of(all, quoted); };
    std::vector<std::string> banked;
    for (const SwitchedWeight& weight : sidecar.weights) {
        if (weight.banked) banked.push_back(weight.name);
    }
    std::ostringstream json;
    json << "{\"format\": \"packnet-plan\", \"version\": 1, \"flavour\": \"tensorrt\", \"tensorrt\": \"10.13.3.9\", "
         << "\"gpu\": null, \"compute_capabilities\": [\"8.6\", \"8.9\"], \"switch\": "
         << quoted(packnet::name_of(sidecar.mode)) << ", \"precision\": " << quoted(type_name(sidecar.precision))
         << ", \"batch\": {\"least\": " << sidecar.batch.least << ", \"best\": " << sidecar.batch.best
         << ", \"most\": " << sidecar.batch.most << "}, \"input\": " << input_text(pack)
         << ", \"classes\": " << sidecar.classes << ", \"graph_sha256\": " << quoted(sidecar.graph_sha256)
         << ", \"onnx_sha256\": " << quoted(std::string(64, '0'))
         << ", \"fixed_sha256\": " << quoted(sidecar.fixed_sha256) << ", \"tasks\": "
         << list_of(sidecar.tasks,
                    [](const packnet::PlanTask& task) {
                        return "{\"name\": " + quoted(task.name) + ", \"index\": " + std::to_string(task.index) +
                               ", \"classes\": " + std::to_string(task.classes) +
                               ", \"sha256\": " + quoted(task.sha256) + '}';
                    })
         << ", \"weights\": "
         << list_of(switched ? sidecar.weights : std::vector<SwitchedWeight>(),
                    [](const SwitchedWeight& weight) {
                        return "{\"name\": " + quoted(weight.name) + ", \"shape\": " + numbers(weight.shape) +
                               ", \"dtype\": " + quoted(type_name(weight.dtype)) +
                               ", \"banked\": " + text_of(weight.banked) + '}';
                    })
         << ", \"norms\": "
         << list_of(sidecar.norms,
                    [&](const Norm& norm) {
                        return "{\"scale\": " + quoted(norm.scale) + ", \"shift\": " + quoted(norm.shift) +
                               ", \"norm\": " + names(norm.norm) + ", \"freed\": " + names(norm.freed) +
                               ", \"epsilon\": 1e-05, \"shape\": " + numbers(norm.shape) + '}';
                    })
         << ", \"sparse_weights\": false, \"tf32\": false, \"sparsity\": "
         << list_of(banked,
                    [](const std::string& name) {
                        return "{\"name\": " + quoted(name) +
                               ", \"eligible\": false, \"promised\": false, \"picked\": null}";
                    })
         << ", \"plan_sha256\": " << quoted(packnet::detail::sha256(plan.data(), plan.size()))
         << ", \"plan_bytes\": " << plan.size() << "}\n";
    return json.str();
}

}  // namespace

void write_toy_plan(const std::filesystem::path& path, const packnet::Pack& pack, const ToyOptions& options) {
    const Sidecar sidecar = sidecar_of(pack, options);
    ToyPlan plan = plan_of(pack, sidecar, options);
    if (options.change) options.change(plan);
    const std::string text = text_of(plan);
    std::ofstream(path, std::ios::binary) << text;
    std::ofstream(packnet::sidecar_path(path), std::ios::binary) << json_of(sidecar, pack, text);
}
