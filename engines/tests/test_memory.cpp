// Memory that runs out: whichever allocation fails, an Error comes out, and nothing else.

#include <atomic>
#include <cstdlib>
#include <new>

#include "check.h"
#include "golden.h"
#include "packnet/bank.h"
#include "packnet/preprocess.h"
#include "sidecar.h"

namespace {

std::atomic<long> allocations_left{-1};  // until the one that fails; none does while it is below zero

}  // namespace

void* operator new(std::size_t size) {
    if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
    if (void* memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

/// Let the first allocation of `work` fail, then the second, and so on, leaving out ever more, until it gets through;
/// returns how many allocations it makes.
template <typename Work>
int failures(const Work& work) {
    for (int failing = 0;; failing += 1 + failing / 32) {
        allocations_left = failing;
        try {
            work();
            if (const long left = allocations_left.exchange(-1); left >= 0) return failing - static_cast<int>(left);
        } catch (const packnet::Error&) {
            allocations_left = -1;
        }
    }
}

}  // namespace

TEST(a_pack_is_read_or_refused) {
    const std::filesystem::path path = golden_path();
    CHECK(failures([&] { packnet::open_pack(path); }) > 20);
    const packnet::Pack pack = packnet::open_pack(path);
    CHECK(failures([&] { packnet::read_graph(pack); }) > 0);
    for (unsigned threads : {1u, 2u}) {
        CHECK(failures([&] { packnet::Deltas(pack, -1, threads); }) > 100);
        const packnet::Deltas deltas(pack);
        CHECK(failures([&] { deltas.content(3); }) > 10);
        CHECK(failures([&] { packnet::Bank(deltas, threads); }) > 5);
        const packnet::Bank bank(deltas);
        CHECK(failures([&] { bank.sha256(2); }) > 0);
        std::vector<std::vector<float>> memory;
        std::vector<float*> out;
        for (const packnet::Parameter& parameter : bank.parameters()) memory.emplace_back(parameter.size);
        for (std::vector<float>& values : memory) out.push_back(values.data());
        CHECK(failures([&] { deltas.materialise(3, out, threads); }) > 0);
        CHECK(failures([&] { bank.materialise(3, out, threads); }) > 0);
    }
}

TEST(a_sidecar_is_read_or_refused) {
    const GoldenCopy copy;
    const std::filesystem::path plan = copy.path / "x.plan";
    write_file(packnet::sidecar_path(plan), golden_sidecar());
    CHECK(failures([&] { packnet::read_sidecar(plan); }) > 50);
}

TEST(an_image_is_prepared_or_refused) {
    const packnet::InputSpec input = packnet::open_pack(golden_path()).input;
    const std::vector<std::uint8_t> picture(40 * 30 * 3);
    CHECK(failures([&] { packnet::centre(input, {picture.data(), 40, 30, 3, 1}); }) > 0);
    CHECK(failures([&] { packnet::probe_batch(input); }) > 0);
    CHECK(failures([&] { input.sha256(); }) > 0);
}
