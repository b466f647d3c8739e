// packnet-dump-sidecar PLAN...: what this library makes of the sidecars of plans, which need not exist, for comparison
// with Python's reader. One line of JSON each, with the fields of docs/engines.md; `input` is its hash.
//
//     {"flavour": "tensorrt", "gpu": null, ...}
//     {"refused": "the error's line"}

#include <iostream>

#include "json_text.h"
#include "sidecar.h"

namespace {

template <typename Items, typename Write>
std::string list(const Items& items, const Write& write) {
    std::vector<std::string> written;
    for (const auto& item : items) written.push_back(write(item));
    return list_of(written);
}

template <typename Texts>
std::string texts(const Texts& items) {
    return list(items, [](const std::string& text) { return json_of(text); });
}

std::string gpu(const packnet::BuildGpu& gpu) {
    return object_of({{"name", json_of(gpu.name)},
                      {"compute_capability", json_of(gpu.compute_capability)},
                      {"driver", json_of(gpu.driver)},
                      {"memory", std::to_string(gpu.memory)}});
}

std::string task(const packnet::PlanTask& task) {
    return object_of({{"name", json_of(task.name)},
                      {"index", std::to_string(task.index)},
                      {"classes", std::to_string(task.classes)},
                      {"sha256", json_of(task.sha256)}});
}

std::string weight(const packnet::SwitchedWeight& weight) {
    return object_of({{"name", json_of(weight.name)},
                      {"shape", list_of_numbers(weight.shape)},
                      {"dtype", json_of(name_of(weight.dtype))},
                      {"banked", json_of(weight.banked)}});
}

std::string norm(const packnet::Norm& norm) {
    return object_of({{"scale", json_of(norm.scale)},
                      {"shift", json_of(norm.shift)},
                      {"norm", texts(norm.norm)},
                      {"freed", texts(norm.freed)},
                      {"epsilon", json_of(norm.epsilon)},
                      {"shape", list_of_numbers(norm.shape)}});
}

std::string layer(const packnet::SparseLayer& layer) {
    return object_of({{"name", json_of(layer.name)},
                      {"eligible", json_of(layer.eligible)},
                      {"promised", json_of(layer.promised)},
                      {"picked", layer.picked ? json_of(*layer.picked) : "null"}});
}

std::string read(const char* plan) {
    const packnet::Sidecar sidecar = packnet::read_sidecar(plan);
    const packnet::BatchRange& batch = sidecar.batch;
    return object_of({{"flavour", json_of(sidecar.flavour)},
                      {"tensorrt", json_of(sidecar.tensorrt)},
                      {"gpu", sidecar.gpu ? gpu(*sidecar.gpu) : "null"},
                      {"compute_capabilities", texts(sidecar.compute_capabilities)},
                      {"switch", json_of(name_of(sidecar.mode))},
                      {"precision", json_of(name_of(sidecar.precision))},
                      {"batch", object_of({{"least", std::to_string(batch.least)},
                                           {"best", std::to_string(batch.best)},
                                           {"most", std::to_string(batch.most)}})},
                      {"input", json_of(sidecar.input.sha256())},
                      {"classes", std::to_string(sidecar.classes)},
                      {"fixed_sha256", json_of(sidecar.fixed_sha256)},
                      {"graph_sha256", json_of(sidecar.graph_sha256)},
                      {"onnx_sha256", json_of(sidecar.onnx_sha256)},
                      {"tasks", list(sidecar.tasks, task)},
                      {"weights", list(sidecar.weights, weight)},
                      {"norms", list(sidecar.norms, norm)},
                      {"sparse_weights", json_of(sidecar.sparse_weights)},
                      {"tf32", json_of(sidecar.tf32)},
                      {"sparsity", list(sidecar.sparsity, layer)},
                      {"plan_sha256", json_of(sidecar.plan_sha256)},
                      {"plan_bytes", std::to_string(sidecar.plan_bytes)}});
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        std::string answer;
        try {
            answer = read(argv[i]);
        } catch (const packnet::Error& error) {
            answer = object_of({{"refused", json_of(error.what())}});
        }
        std::cout << answer << '\n';
    }
}
