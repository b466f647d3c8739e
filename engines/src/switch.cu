// Switching an engine's weights from one task to another by the difference: the kernels of both runtimes, Python's
// (compiled by NVRTC) and the C++ one's (nvcc). docs/engines.md has the layout that they read.
//
// Tasks nest, so a switch touches only the weights whose owner lies between the two: going up it writes their values,
// going down zeros. Values, masks and counts may lie in page-locked host memory: each byte is read once, in whole
// lines, and nothing is staged in between. No header is needed, so that NVRTC finds all there is.
//
// A tile is 8,192 weights, the work of one block of 256 threads: a word of 32 bits of the mask for each thread. One
// launch has a block for each tile (x) and each owner between the tasks (y).

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 kThreads = 256;
constexpr u32 kWarps = kThreads / 32;
constexpr u32 kTile = 32 * kThreads;
constexpr u32 kVector = 16;  // bytes that one memory instruction moves

// What both kernels are given. The rows of `masks` and `before` are the owners between the tasks, the lowest first.
struct Owners {
    const u32* masks;   // [owners][256 * tiles]: bit b of word w is weight 32 * w + b of the whole bank
    const u32* before;  // [owners][tiles + 1]: how many values come before each tile's, those of lower owners included
    u32 tiles;          // of the whole bank
};

// Calls `write(position, nth)` for every weight in `words`, the masks of one tile, that lies in first..last; `nth`
// counts the tile's own. A warp takes a word at a time and a thread one bit of it, so that neighbours write side by side.
template <typename Write>
__device__ static void for_each_owned(const u32* words, const u32* earlier, u32 tile, u64 first, u64 last, Write write) {
    const u32 bit = threadIdx.x % 32;
    for (u32 word = threadIdx.x / 32; word < kThreads; word += kWarps) {
        const u64 position = static_cast<u64>(tile) * kTile + 32 * word + bit;
        const u32 lower = words[word] & ((1u << bit) - 1);
        if ((words[word] >> bit & 1) && first <= position && position < last) {
            write(position, (earlier ? earlier[word] : 0) + __popc(lower));
        }
    }
}

template <typename Weight>
__device__ static void write_owners(Weight* out, const Weight* values, Owners owners, u64 first, u64 last) {
    __shared__ uint4 staged[kTile * sizeof(Weight) / kVector + 1];
    __shared__ u32 words[kThreads], earlier[kThreads];
    const u32 tile = static_cast<u32>(first / kTile) + blockIdx.x, thread = threadIdx.x;
    const u32* before = owners.before + static_cast<u64>(blockIdx.y) * (owners.tiles + 1) + tile;
    const u32 begin = before[0], end = before[1];
    if (begin == end) return;

    words[thread] = owners.masks[(static_cast<u64>(blockIdx.y) * owners.tiles + tile) * kThreads + thread];
    constexpr u32 kLine = kVector / sizeof(Weight);  // weights; `values` begins at a whole one and ends with one
    const uint4* lines = reinterpret_cast<const uint4*>(values);
    for (u32 line = begin / kLine + thread; line <= (end - 1) / kLine; line += kThreads) {
        staged[line - begin / kLine] = lines[line];
    }
    earlier[thread] = __popc(words[thread]);
    __syncthreads();
    for (u32 step = 1; step < kThreads; step *= 2) {  // to running sums
        const u32 more = thread >= step ? earlier[thread - step] : 0;
        __syncthreads();
        earlier[thread] += more;
        __syncthreads();
    }
    earlier[thread] -= __popc(words[thread]);
    __syncthreads();

    const Weight* mine = reinterpret_cast<const Weight*>(staged) + begin % kLine;
    for_each_owned(words, earlier, tile, first, last, [&](u64 position, u32 nth) { out[position - first] = mine[nth]; });
}

template <typename Weight>
__device__ static void clear_owners(Weight* out, Owners owners, u64 first, u64 last) {
    __shared__ u32 words[kThreads];
    const u32 tile = static_cast<u32>(first / kTile) + blockIdx.x, thread = threadIdx.x;
    const u32* before = owners.before + static_cast<u64>(blockIdx.y) * (owners.tiles + 1) + tile;
    if (before[0] == before[1]) return;

    words[thread] = owners.masks[(static_cast<u64>(blockIdx.y) * owners.tiles + tile) * kThreads + thread];
    __syncthreads();
    for_each_owned(words, nullptr, tile, first, last, [&](u64 position, u32) { out[position - first] = 0; });
}

// `out` is where weight `first` of the bank goes; what lies in first..last, and nothing else, is written. Blocks, x: the
// tiles from that of `first` through that of `last - 1`; y: the owners. 16 and 32 are the bits of a weight: weights are
// moved as bits, so that their type does not matter.

extern "C" __global__ void packnet_write_16(u16* out, const u16* values, const u32* masks, const u32* before, u32 tiles,
                                            u64 first, u64 last) {
    write_owners(out, values, Owners{masks, before, tiles}, first, last);
}

extern "C" __global__ void packnet_write_32(u32* out, const u32* values, const u32* masks, const u32* before, u32 tiles,
                                            u64 first, u64 last) {
    write_owners(out, values, Owners{masks, before, tiles}, first, last);
}

extern "C" __global__ void packnet_clear_16(u16* out, const u32* masks, const u32* before, u32 tiles, u64 first,
                                            u64 last) {
    clear_owners(out, Owners{masks, before, tiles}, first, last);
}

extern "C" __global__ void packnet_clear_32(u32* out, const u32* masks, const u32* before, u32 tiles, u64 first,
                                            u64 last) {
    clear_owners(out, Owners{masks, before, tiles}, first, last);
}
