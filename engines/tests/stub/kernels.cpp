// The kernels of switch.cu as docs/engines.md has them, one weight after the other, on the stand-in GPU; what they read
// is counted. The real ones are held against numpy by tests/trt/test_difference.py, compiled for the host.

#include "trt/kernels.h"

#include <atomic>
#include <cstring>

#include "bits.h"
#include "ordered_bank.h"
#include "stub.h"

namespace packnet::detail {
namespace {

std::atomic<bool> without_kernels{false};

/// What one block does: the weights of one owner in one tile.
void run_block(const SwitchLaunch& what, std::size_t owner, std::size_t tile) {
    const auto* const before = reinterpret_cast<const std::uint32_t*>(
        stub_resolve(what.before + owner * (what.tiles + 1) + tile, 2 * sizeof(std::uint32_t)));
    if (before[0] == before[1]) return;
    const auto* const words = reinterpret_cast<const std::uint32_t*>(
        stub_resolve(what.masks + (owner * what.tiles + tile) * kWords, kWords * sizeof(std::uint32_t)));
    stub_count(&StubCounts::positions, kWords * sizeof(std::uint32_t));
    const std::byte* values = nullptr;
    if (what.values) {
        values = stub_resolve(what.values + before[0] * what.item, (before[1] - before[0]) * what.item);
        stub_count(&StubCounts::values, (before[1] - before[0]) * what.item);
    }
    std::size_t nth = 0;
    for (std::size_t word = 0; word < kWords; ++word) {
        for (std::uint64_t owned = words[word]; owned; owned &= owned - 1, ++nth) {
            const std::size_t position = tile * kTile + 32 * word + static_cast<std::size_t>(lowest_one(owned));
            if (position < what.span.first || position >= what.span.last) continue;
            std::byte* const out = stub_resolve(what.out + (position - what.span.first) * what.item, what.item);
            if (values) {
                std::memcpy(out, values + nth * what.item, what.item);
            } else {
                std::memset(out, 0, what.item);
            }
            stub_count(&StubCounts::written);
        }
    }
}

}  // namespace

bool has_kernels() noexcept { return !without_kernels; }

void launch(const SwitchLaunch& what, const Stream& stream) {
    if (what.span.size() == 0 || what.owners == 0) stub_abort("a launch of no blocks");
    stub_count(&StubCounts::switches);
    check_cuda(stub_enqueue(stream.get(),
                            [what] {
                                const std::size_t last = (what.span.last + kTile - 1) / kTile;
                                for (std::size_t owner = 0; owner < static_cast<std::size_t>(what.owners); ++owner) {
                                    std::size_t tile = what.span.first / kTile;
                                    stub_count(&StubCounts::positions, (last - tile + 1) * sizeof(std::uint32_t));
                                    for (; tile < last; ++tile) run_block(what, owner, tile);
                                }
                            }),
               "switching weights");
}

}  // namespace packnet::detail

void stub_without_kernels(bool without) { packnet::detail::without_kernels = without; }
