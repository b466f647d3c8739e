// packnet-dump-engine PLAN PACK...: what an engine would be given, for comparison with the Python package: every task
// switched to every other on the stand-in GPU, for bind, the bank on the host and on the device. PLAN need not exist,
// its sidecar must. One line of JSON for each pack:
//
//     {"bank": {"values": SHA-256 of the ordered bank's array, "masks": ..., "before": ...},
//      "host": {"refit": {"values": whether they lie on the GPU, "positions": ..., "own": ..., "scratch": bytes},
//               "gpu_bytes": all that was allocated for bind,
//               "switches": [{"from": 0, "to": 1, "launches": 1, "weights": written, "values": bytes read, "positions":
//                             bytes read, "copied": bytes,
//                             "tensors": {"conv1.weight": SHA-256 of the typed values in C order, ...}}, ...]},
//      "device": the same, "no kernels": the same where the host switches}
//     {"refused": "the error's line"}

#include <iostream>

#include "engine_weights.h"
#include "json_text.h"
#include "sha256.h"
#include "stub/stub.h"
#include "trt/weight_buffer.h"

using namespace packnet::detail;
using packnet::SwitchedWeight;

namespace {

template <typename T>
std::string hash_of(const std::vector<T>& array) {
    return json_of(sha256(array.data(), array.size() * sizeof(T)));
}

/// What lies in the buffer now.
std::string tensors_in(const WeightBuffer& buffer, const std::vector<SwitchedWeight>& weights, const Stream& stream) {
    Members hashes;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        std::vector<std::byte> there(weights[i].bytes());
        stream.copy(there.data(), buffer.addresses()[i], there.size());
        stream.wait();
        hashes.emplace_back(weights[i].name, hash_of(there));
    }
    return object_of(hashes);
}

/// One switch, of which everything is counted. From task 0: into a buffer that holds nothing.
std::string switched(PlacedBank& bank, const std::vector<SwitchedWeight>& weights, int source, int target) {
    const Stream stream;
    WeightBuffer buffer(bank.layout());
    if (source) buffer.enqueue(bank, source, stream);
    stream.wait();
    const StubCounts before = stub_counts();
    buffer.enqueue(bank, target, stream);
    stream.wait();
    const StubCounts counts = stub_counts() - before;
    return object_of({{"from", std::to_string(source)},
                      {"to", std::to_string(target)},
                      {"launches", std::to_string(counts.switches)},
                      {"weights", std::to_string(counts.written)},
                      {"values", std::to_string(counts.values)},
                      {"positions", std::to_string(counts.positions)},
                      {"copied", std::to_string(counts.copied)},
                      {"tensors", tensors_in(buffer, weights, stream)}});
}

std::string placement_of(const Placement& placement) {
    return object_of({{"values", json_of(placement.values)},
                      {"positions", json_of(placement.positions)},
                      {"own", json_of(placement.own)},
                      {"scratch", std::to_string(placement.scratch)}});
}

std::string placed(const EngineWeights& made, bool on_device) {
    const std::size_t before = stub_device_bytes();
    const Stream stream;
    const auto bank = place_bank(made, place(sizes_of(made), packnet::Switch::bind, on_device), stream);
    const std::size_t taken = stub_device_bytes() - before;
    std::string switches;
    for (int source = 0; source <= made.tasks(); ++source) {
        for (int target = 1; target <= made.tasks(); ++target) {
            switches += (switches.empty() ? "" : ", ") + switched(*bank, made.weights, source, target);
        }
    }
    return object_of({{"refit", placement_of(place(sizes_of(made), packnet::Switch::refit, on_device))},
                      {"gpu_bytes", std::to_string(taken)},
                      {"switches", '[' + switches + ']'}});
}

std::string read(const packnet::Sidecar& plan, const char* path) {
    const EngineWeights made = engine_weights(packnet::Deltas(packnet::open_pack(path)), plan, 0);
    Members answer{{"bank", object_of({{"values", hash_of(made.bank.values)},
                                       {"masks", hash_of(made.bank.masks)},
                                       {"before", hash_of(made.bank.before)}})},
                   {"host", placed(made, false)},
                   {"device", placed(made, true)}};
    stub_without_kernels(true);
    answer.emplace_back("no kernels", placed(made, false));
    stub_without_kernels(false);
    return object_of(answer);
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
