// packnet-bench-materialise PACK: how long the last task of a pack takes to be materialised, as JSON, in seconds.
//
// The measure is a scalar pass: one thread, one weight after another, over owner, value and output, which is the
// least work that a masked copy can be without vector instructions; it has no branch on owners, which would cost more.
// Everything is measured in this one run, in turn, into the same memory, which has been written before; the figure is
// the median of the rounds.

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

#include "packnet/bank.h"

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

double median(std::vector<double> times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

void measure(const char* path) {
    const packnet::Pack pack = packnet::open_pack(path);
    const double opening = seconds([&] { packnet::Deltas again(pack); });
    const packnet::Deltas deltas(pack);
    const packnet::Bank bank(deltas);
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
        {"bank", [&] { bank.materialise(task, out); }},
        {"bank_one_thread", [&] { bank.materialise(task, out, 1); }},
        {"deltas", [&] { deltas.materialise(task, out); }},
        {"deltas_one_thread", [&] { deltas.materialise(task, out, 1); }},
    };
    std::map<std::string, std::vector<double>> times;
    for (int round = 0; round < kRounds; ++round) {
        for (const auto& [name, work] : contestants) times[name].push_back(seconds(work));
    }
    std::printf("{\"threads\": %u, \"open_and_hash\": %.4f", std::thread::hardware_concurrency(), opening);
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
