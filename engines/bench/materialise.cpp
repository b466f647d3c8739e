// packnet-bench-materialise PACK: how long the last task of a pack takes to be materialised, as JSON, in seconds.
//
// The measure is a scalar pass: one thread, one weight after another, over owner, value and output, which is the
// least work that a masked copy can be without vector instructions; it has no branch on owners, which would cost more.
// Everything is measured in this one run, in turn, into the same memory, which has been written before; the figure is
// the median of the rounds. "Portable" is the code for processors without instructions that it knows.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "chain.h"
#include "decode.h"
#include "packnet/bank.h"
#include "parallel.h"
#include "pieces.h"
#include "sha256.h"

namespace {

constexpr int kRounds = 9;

#if defined(__GNUC__) && !defined(__clang__)
__attribute__((noinline, optimize("no-tree-vectorize")))
#else
__attribute__((noinline))
#endif
void scalar_pass(float* out, const float* values, const std::uint8_t* owners, std::size_t count, int task) {
#if defined(__clang__)
#pragma clang loop vectorize(disable) interleave(disable)
#endif
    for (std::size_t i = 0; i < count; ++i) {
        const bool owned = static_cast<std::uint8_t>(owners[i] - 1) < task;  // 0 < owner <= task
        const std::uint32_t keep = owned ? ~std::uint32_t{0} : 0;
        std::uint32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        bits &= keep;
        std::memcpy(out + i, &bits, sizeof bits);
    }
}

double seconds(const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

using packnet::detail::Chain;

/// Deltas::materialise as it is on a processor without better instructions.
void materialise_portably(const Chain& chain, const std::vector<float*>& out, unsigned threads) {
    const std::vector<packnet::detail::Piece> pieces = packnet::detail::pieces_of(chain.parameters);
    packnet::detail::parallel_for(pieces.size(), threads, [&](std::size_t i) {
        const auto [parameter, chunk] = pieces[i];
        packnet::detail::decode_chunk(chain, parameter, chunk, static_cast<int>(chain.deltas.size()),
                                      out[parameter] + chunk * packnet::detail::kChunk, nullptr,
                                      packnet::detail::Processor::any);
    });
}

/// Opening a pack, hashed as on such a processor.
void open_portably(const packnet::Pack& pack, const Chain& chain) {
    packnet::detail::parallel_for(chain.mappings.size(), 0, [&](std::size_t i) {
        std::uint32_t state[8] = {};
        const packnet::detail::Bytes bytes = chain.mappings[i].bytes();
        packnet::detail::compress_portable(state, reinterpret_cast<const std::uint8_t*>(bytes.data), bytes.size / 64);
    });
    std::vector<packnet::detail::Bytes> files;
    for (const packnet::detail::MappedFile& file : chain.mappings) files.push_back(file.bytes());
    packnet::detail::check_chain(pack, files);
}

double median(std::vector<double> times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

void measure(const char* path) {
    const packnet::Pack pack = packnet::open_pack(path);
    const packnet::Deltas deltas(pack);
    const packnet::Bank bank(deltas);
    const Chain& chain = packnet::detail::chain_of(deltas);
    const int task = deltas.tasks();
    std::vector<std::vector<float>> memory;
    std::vector<float*> out;
    for (const packnet::Parameter& parameter : pack.parameters) memory.emplace_back(parameter.size, 1.0f);
    for (std::vector<float>& values : memory) out.push_back(values.data());

    const std::map<std::string, std::function<void()>> contestants = {
        {"scalar_pass",
         [&] {
             for (std::size_t i = 0; i < out.size(); ++i) {
                 scalar_pass(out[i], bank.values(i), bank.owners(i), pack.parameters[i].size, task);
             }
         }},
        {"open_and_hash", [&] { packnet::Deltas again(pack); }},
        {"open_and_hash_portable", [&] { open_portably(pack, chain); }},
        {"deltas_portable", [&] { materialise_portably(chain, out, 0); }},
        {"deltas_portable_one_thread", [&] { materialise_portably(chain, out, 1); }},
        {"bank", [&] { bank.materialise(task, out); }},
        {"bank_one_thread", [&] { bank.materialise(task, out, 1); }},
        {"deltas", [&] { deltas.materialise(task, out); }},
        {"deltas_one_thread", [&] { deltas.materialise(task, out, 1); }},
    };
    std::map<std::string, std::vector<double>> times;
    for (int round = 0; round < kRounds; ++round) {
        for (const auto& [name, work] : contestants) times[name].push_back(seconds(work));
    }
    std::printf("{\"threads\": %u", std::thread::hardware_concurrency());
    for (const auto& [name, taken] : times) std::printf(", \"%s\": %.4f", name.c_str(), median(taken));
    std::printf("}\n");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: packnet-bench-materialise PACK\n");
        return EXIT_FAILURE;
    }
    try {
        measure(argv[1]);
    } catch (const packnet::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return EXIT_FAILURE;
    }
}
