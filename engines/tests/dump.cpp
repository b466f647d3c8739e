// packnet-dump PACK...: what this library makes of packs, for comparison with Python's reader. One line of JSON each:
//
//     {"parameters": [["conv1.weight", [5, 3, 3, 3], ""]], "tasks": [{"task": "birds", "decoded": {...}, ...}], ...}
//     {"refused": "the error's line"}
//
// Hashes are SHA-256 over float32 (owner maps: uint8) in C order.

#include <iostream>

#include "json_text.h"
#include "packnet/bank.h"
#include "sha256.h"

namespace {

constexpr std::size_t kMostPixels = 1 << 20;  // of a probe image, to be hashed

/// One task's packed weights as `source` (Deltas or Bank) materialises them, over memory that was not zero before.
template <typename Source>
Members packed(const Source& source, int task) {
    std::vector<std::vector<float>> memory;
    std::vector<float*> out;
    for (const packnet::Parameter& parameter : source.parameters()) memory.emplace_back(parameter.size, 7.0f);
    for (std::vector<float>& values : memory) out.push_back(values.data());
    source.materialise(task, out);
    Members hashes;
    for (std::size_t i = 0; i < memory.size(); ++i) {
        const std::string hash = packnet::detail::sha256(memory[i].data(), memory[i].size() * 4);
        hashes.emplace_back(source.parameters()[i].name, json_of(hash));
    }
    return hashes;
}

std::string hash_of(const std::vector<float>& values) {
    return json_of(packnet::detail::sha256(values.data(), values.size() * 4));
}

std::string texts(const std::vector<std::string>& items) {
    std::vector<std::string> result;
    for (const std::string& item : items) result.push_back(json_of(item));
    return list_of(result);
}

std::string describe(const packnet::Deltas& deltas, const packnet::Bank& bank, const packnet::TaskEntry& entry) {
    const packnet::TaskContent content = deltas.content(entry.index);
    Members tensors, shapes;
    for (const auto& [name, tensor] : content.tensors) {
        tensors.emplace_back(name, hash_of(tensor.values));
        shapes.emplace_back(name, list_of_numbers(tensor.shape));
    }
    return object_of({{"task", json_of(entry.name)},
                      {"index", std::to_string(entry.index)},
                      {"classes", texts(content.classes)},
                      {"decoded", object_of(packed(deltas, entry.index))},
                      {"masked", object_of(packed(bank, entry.index))},
                      {"tensors", object_of(tensors)},
                      {"shapes", object_of(shapes)},
                      {"probe_logits", hash_of(content.probe_logits.values)},
                      {"report", json_of(content.report)},
                      {"input_sha256", json_of(content.input.sha256())},
                      {"stated_frozen_sha256", json_of(content.frozen_sha256)},
                      {"frozen_sha256", json_of(bank.sha256(entry.index - 1))}});
}

/// The weights of all tasks; what has none is not decoded: a pack without tasks may claim any size.
Members weights_of(const packnet::Pack& pack) {
    const packnet::Deltas deltas(pack);
    Members owners;
    std::vector<std::string> tasks;
    if (!pack.tasks.empty()) {
        const packnet::Bank bank(deltas);
        for (std::size_t i = 0; i < pack.parameters.size(); ++i) {
            const std::string hash = packnet::detail::sha256(bank.owners(i), pack.parameters[i].size);
            owners.emplace_back(pack.parameters[i].name, json_of(hash));
        }
        for (const packnet::TaskEntry& entry : pack.tasks) tasks.push_back(describe(deltas, bank, entry));
    }
    return {{"owners", object_of(owners)}, {"tasks", list_of(tasks)}};
}

std::string read(const char* path) {
    const packnet::Pack pack = packnet::open_pack(path);
    packnet::read_graph(pack);
    std::vector<std::string> parameters;
    for (const packnet::Parameter& parameter : pack.parameters) {
        parameters.push_back(
            list_of({json_of(parameter.name), list_of_numbers(parameter.shape), json_of(parameter.pattern)}));
    }
    Members answer = weights_of(pack);
    answer.emplace_back("parameters", list_of(parameters));
    answer.emplace_back("input_sha256", json_of(pack.input.sha256()));
    const bool is_small = pack.input.image_size() <= kMostPixels;
    answer.emplace_back("probe_sha256", is_small ? hash_of(packnet::probe_batch(pack.input)) : "null");
    return object_of(answer);
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
