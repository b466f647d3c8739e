// switch.cu compiled for the host: its arithmetic, its indices and its waits without a GPU.

#include "fibers.h"

#include SWITCH_CU

extern "C" void write_16(unsigned x, unsigned y, u16* out, const u16* values, const u32* masks, const u32* before,
                         u32 tiles, u64 first, u64 last) {
    launch(x, y, kThreads, [=] { packnet_write_16(out, values, masks, before, tiles, first, last); });
}

extern "C" void write_32(unsigned x, unsigned y, u32* out, const u32* values, const u32* masks, const u32* before,
                         u32 tiles, u64 first, u64 last) {
    launch(x, y, kThreads, [=] { packnet_write_32(out, values, masks, before, tiles, first, last); });
}

extern "C" void clear_16(unsigned x, unsigned y, u16* out, const u32* masks, const u32* before, u32 tiles, u64 first,
                         u64 last) {
    launch(x, y, kThreads, [=] { packnet_clear_16(out, masks, before, tiles, first, last); });
}

extern "C" void clear_32(unsigned x, unsigned y, u32* out, const u32* masks, const u32* before, u32 tiles, u64 first,
                         u64 last) {
    launch(x, y, kThreads, [=] { packnet_clear_32(out, masks, before, tiles, first, last); });
}
