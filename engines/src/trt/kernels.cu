#include "kernels.h"

#include "../switch.cu"

namespace packnet::detail {
namespace {

template <typename Weight, typename Write, typename Clear>
void launch_of(const SwitchLaunch& what, const Stream& stream, Write write, Clear clear) {
    const auto tiles = static_cast<u32>(what.tiles);
    const u64 first = what.span.first, last = what.span.last;
    const dim3 blocks(static_cast<u32>((last + kTile - 1) / kTile - first / kTile), static_cast<u32>(what.owners));
    const auto out = reinterpret_cast<Weight*>(what.out);
    if (what.values) {
        const auto values = reinterpret_cast<const Weight*>(what.values);
        write<<<blocks, kThreads, 0, stream.get()>>>(out, values, what.masks, what.before, tiles, first, last);
    } else {
        clear<<<blocks, kThreads, 0, stream.get()>>>(out, what.masks, what.before, tiles, first, last);
    }
    check_cuda(cudaGetLastError(), "switching weights");
}

}  // namespace

bool has_kernels() noexcept { return true; }

void launch(const SwitchLaunch& what, const Stream& stream) {
    if (what.item == sizeof(u32)) {
        launch_of<u32>(what, stream, packnet_write_32, packnet_clear_32);
    } else {
        launch_of<u16>(what, stream, packnet_write_16, packnet_clear_16);
    }
}

}  // namespace packnet::detail
