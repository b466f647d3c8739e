// Masking a weight bank on the GPU: the kernels of both runtimes, Python's (compiled by NVRTC) and the C++ one (nvcc).
//
// No header is needed, so that NVRTC finds all there is. A bank is a flat array, of one weight tensor or of all of
// them, with a rank, one byte, for each value: its owner minus one, 255 where it is free and no task has it. Kernels take the
// index of the task, 1 for the first. Arrays begin at multiples of 16 bytes; a count may be anything.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

__device__ static u64 thread_index() { return static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; }

// ---- out[i] = ranks[i] < task ? bank[i] : 0; weights are moved as bits, so that the type does not matter. ----------
// Each thread takes the 16 bytes that one memory instruction moves; the last one what is left over.

__device__ static u32 keep32(u32 bits, u32 rank, u32 task) { return rank < task ? bits : 0; }

// Two weights of 16 bits, and the bytes of their ranks in the low half of `ranks`.
__device__ static u32 keep16(u32 pair, u32 ranks, u32 task) {
    const u32 low = (ranks & 0xff) < task ? 0x0000ffffu : 0u;
    const u32 high = (ranks >> 8 & 0xff) < task ? 0xffff0000u : 0u;
    return pair & (low | high);
}

extern "C" __global__ void packnet_mask_32(u32* out, const u32* bank, const u8* ranks, u64 count, u32 task) {
    const u64 first = 4 * thread_index();
    if (first + 4 <= count) {
        const uint4 bits = *reinterpret_cast<const uint4*>(bank + first);
        const u32 four = *reinterpret_cast<const u32*>(ranks + first);
        uint4 kept;
        kept.x = keep32(bits.x, four & 0xff, task);
        kept.y = keep32(bits.y, four >> 8 & 0xff, task);
        kept.z = keep32(bits.z, four >> 16 & 0xff, task);
        kept.w = keep32(bits.w, four >> 24, task);
        *reinterpret_cast<uint4*>(out + first) = kept;
    } else {
        for (u64 i = first; i < count; ++i) out[i] = ranks[i] < task ? bank[i] : 0;
    }
}

extern "C" __global__ void packnet_mask_16(u16* out, const u16* bank, const u8* ranks, u64 count, u32 task) {
    const u64 first = 8 * thread_index();
    if (first + 8 <= count) {
        const uint4 bits = *reinterpret_cast<const uint4*>(bank + first);
        const uint2 eight = *reinterpret_cast<const uint2*>(ranks + first);
        uint4 kept;
        kept.x = keep16(bits.x, eight.x, task);
        kept.y = keep16(bits.y, eight.x >> 16, task);
        kept.z = keep16(bits.z, eight.y, task);
        kept.w = keep16(bits.w, eight.y >> 16, task);
        *reinterpret_cast<uint4*>(out + first) = kept;
    } else {
        for (u64 i = first; i < count; ++i) out[i] = ranks[i] < task ? bank[i] : 0;
    }
}

// ---- weights[i] *= ratios[output channel of i], in float32, rounded to the type: a task's own normalisation. --------

// `inner` weights that lie together share a channel, and channels follow each other over and over.
__device__ static float ratio_of(const float* ratios, u64 i, u64 inner, u32 channels) {
    return ratios[i / inner % channels];
}

__device__ static float float_from_half(u16 half) {
    const u32 sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    u32 bits;
    if (magnitude < 0x0400) {
        bits = __float_as_uint(static_cast<float>(magnitude) * 5.9604644775390625e-8f);  // subnormal: units of 2^-24
    } else {
        bits = (magnitude << 13) + (magnitude < 0x7c00 ? 0x38000000u : 0x70000000u);  // infinity keeps the top exponent
    }
    return __uint_as_float(sign | bits);
}

// To nearest, ties to even, as the tensors were rounded when the bank was made.
__device__ static u16 half_from_float(float value) {
    const u32 bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    u32 half;
    if (magnitude > 0x7f800000u) {
        half = 0x7e00;  // not a number
    } else if (magnitude >= 0x47800000u) {
        half = 0x7c00;  // 65536 and more
    } else if (magnitude < 0x38800000u) {
        // Subnormal: between 0.5 and 1 floats are 2^-24 apart, which is what the smallest halves are counted in.
        half = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    } else {
        half = (magnitude - 0x38000000u + 0x0fffu + (magnitude >> 13 & 1)) >> 13;
    }
    return static_cast<u16>(sign | half);
}

__device__ static float float_from_bfloat(u16 bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }

__device__ static u16 bfloat_from_float(float value) {
    const u32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<u16>(bits >> 16 | 0x0040);  // not a number stays so
    return static_cast<u16>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

extern "C" __global__ void packnet_scale_fp32(float* weights, const float* ratios, u64 count, u64 inner, u32 channels) {
    const u64 i = thread_index();
    if (i < count) weights[i] *= ratio_of(ratios, i, inner, channels);
}

extern "C" __global__ void packnet_scale_fp16(u16* weights, const float* ratios, u64 count, u64 inner, u32 channels) {
    const u64 i = thread_index();
    if (i < count) weights[i] = half_from_float(float_from_half(weights[i]) * ratio_of(ratios, i, inner, channels));
}

extern "C" __global__ void packnet_scale_bf16(u16* weights, const float* ratios, u64 count, u64 inner, u32 channels) {
    const u64 i = thread_index();
    if (i < count) weights[i] = bfloat_from_float(float_from_bfloat(weights[i]) * ratio_of(ratios, i, inner, channels));
}
