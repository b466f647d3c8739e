// packnet-dump-engine PLAN PACK...: what an engine would be given, for comparison with Python's EngineBank. PLAN need
// not exist, its sidecar must. One line of JSON for each pack:
//
//     {"birds": {"conv1.weight": SHA-256 of the typed values in C order, ...}, ...}
//     {"refused": "the error's line"}

#include <cstdlib>
#include <iostream>

#include "engine_bank.h"
#include "json_text.h"
#include "sha256.h"

namespace {

std::string read(const packnet::Sidecar& plan, const char* path) {
    const packnet::Pack pack = packnet::open_pack(path);
    packnet::EngineBank bank(packnet::Deltas(pack), plan);
    Members answer;
    for (const packnet::TaskEntry& task : pack.tasks) {
        std::vector<std::vector<std::byte>> memory;  // not zero before
        std::vector<std::byte*> out;
        for (const packnet::SwitchedWeight& weight : bank.weights()) memory.emplace_back(weight.bytes(), std::byte{7});
        for (std::vector<std::byte>& bytes : memory) out.push_back(bytes.data());
        bank.materialise(task.index, out);
        Members hashes;
        for (std::size_t i = 0; i < memory.size(); ++i) {
            const std::string hash = packnet::detail::sha256(memory[i].data(), memory[i].size());
            hashes.emplace_back(bank.weights()[i].name, json_of(hash));
        }
        answer.emplace_back(task.name, object_of(hashes));
    }
    bank.drop_bank();
    try {
        bank.materialise(1, {});
        std::abort();  // it used memory that is gone
    } catch (const packnet::Error&) {
        return object_of(answer);
    }
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 2; i < argc; ++i) {
        std::string answer;
        try {
            answer = read(packnet::read_sidecar(argv[1]), argv[i]);
        } catch (const packnet::Error& error) {
            answer = object_of({{"refused", json_of(error.what())}});
        }
        std::cout << answer << '\n';
    }
}
