// packnet-dump PACK...: what this library makes of packs, for comparison with Python's reader. One line of JSON each:
//
//     {"parameters": [["conv1.weight", [5, 3, 3, 3], ""]], "tasks": [{"task": "birds", "decoded": {...}, ...}], ...}
//     {"refused": "the error's line"}
//
// Hashes are SHA-256 over float32 (owner maps: uint8) in C order.

#include <iostream>
#include <map>

#include "golden.h"
#include "packnet/bank.h"
#include "sha256.h"

namespace {

using Hashes = std::map<std::string, std::string>;

/// One task's packed weights as `source` (Deltas or Bank) materialises them, over memory that was not zero before.
template <typename Source>
Hashes packed(const Source& source, int task) {
    std::vector<std::vector<float>> memory;
    std::vector<float*> out;
    for (const packnet::Parameter& parameter : source.parameters()) memory.emplace_back(parameter.size, 7.0f);
    for (std::vector<float>& values : memory) out.push_back(values.data());
    source.materialise(task, out);
    Hashes hashes;
    for (std::size_t i = 0; i < memory.size(); ++i) {
        hashes[source.parameters()[i].name] = packnet::detail::sha256(memory[i].data(), memory[i].size() * 4);
    }
    return hashes;
}

std::string hash_of(const packnet::Tensor& tensor) {
    return packnet::detail::sha256(tensor.values.data(), tensor.values.size() * 4);
}

Json describe(const packnet::Deltas& deltas, const packnet::Bank& bank, const packnet::TaskEntry& entry) {
    const packnet::TaskContent content = deltas.content(entry.index);
    Hashes tensors;
    Json shapes;
    for (const auto& [name, tensor] : content.tensors) {
        tensors[name] = hash_of(tensor);
        shapes[name] = tensor.shape;
    }
    return {{"task", entry.name},
            {"index", entry.index},
            {"classes", content.classes},
            {"decoded", packed(deltas, entry.index)},
            {"masked", packed(bank, entry.index)},
            {"tensors", tensors},
            {"shapes", shapes},
            {"probe_logits", hash_of(content.probe_logits)},
            {"report", parsed(content.report)},
            {"input_sha256", content.input.sha256()},
            {"stated_frozen_sha256", content.frozen_sha256},
            {"frozen_sha256", bank.sha256(entry.index - 1)}};
}

Json read(const char* path) {
    const packnet::Pack pack = packnet::open_pack(path);
    packnet::read_graph(pack);
    const packnet::Deltas deltas(pack);
    const packnet::Bank bank(deltas);
    const std::vector<float> probe = packnet::probe_batch(pack.input);
    Json parameters = Json::array(), tasks = Json::array();
    Hashes owners;
    for (std::size_t i = 0; i < pack.parameters.size(); ++i) {
        const packnet::Parameter& parameter = pack.parameters[i];
        parameters.push_back({parameter.name, parameter.shape, parameter.pattern});
        owners[parameter.name] = packnet::detail::sha256(bank.owners(i), parameter.size);
    }
    for (const packnet::TaskEntry& entry : pack.tasks) tasks.push_back(describe(deltas, bank, entry));
    return {{"input_sha256", pack.input.sha256()},
            {"probe_sha256", packnet::detail::sha256(probe.data(), probe.size() * 4)},
            {"parameters", parameters},
            {"owners", owners},
            {"tasks", tasks}};
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        Json answer;
        try {
            answer = read(argv[i]);
        } catch (const packnet::Error& error) {
            answer = {{"refused", error.what()}};
        }
        std::cout << text_of(answer) << '\n';
    }
}
