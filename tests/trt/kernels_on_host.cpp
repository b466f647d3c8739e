// mask.cu compiled for the host, one thread after the other: its arithmetic and its indices without a GPU.

#include <cstring>

#define __device__
#define __global__

struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct Index {
    unsigned x;
};

static Index blockIdx, blockDim, threadIdx;

static unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#include MASK_CU

template <typename Kernel, typename... Arguments>
static void launch(unsigned blocks, unsigned threads, Kernel kernel, Arguments... arguments) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(arguments...);
}

extern "C" void mask_32(unsigned blocks, unsigned threads, u32* out, const u32* bank, const u8* ranks, u64 count,
                        u32 task) {
    launch(blocks, threads, packnet_mask_32, out, bank, ranks, count, task);
}

extern "C" void mask_16(unsigned blocks, unsigned threads, u16* out, const u16* bank, const u8* ranks, u64 count,
                        u32 task) {
    launch(blocks, threads, packnet_mask_16, out, bank, ranks, count, task);
}

extern "C" void scale_fp32(unsigned blocks, unsigned threads, float* w, const float* r, u64 count, u64 inner,
                           u32 channels) {
    launch(blocks, threads, packnet_scale_fp32, w, r, count, inner, channels);
}

extern "C" void scale_fp16(unsigned blocks, unsigned threads, u16* w, const float* r, u64 count, u64 inner,
                           u32 channels) {
    launch(blocks, threads, packnet_scale_fp16, w, r, count, inner, channels);
}

extern "C" void scale_bf16(unsigned blocks, unsigned threads, u16* w, const float* r, u64 count, u64 inner,
                           u32 channels) {
    launch(blocks, threads, packnet_scale_bf16, w, r, count, inner, channels);
}
