#include "decode.h"

#include <algorithm>
#include <cstring>

#include "bits.h"
#include "float16.h"
#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

template <typename T>
T load(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

struct Float32 {
    static float read(const std::byte* from) { return load<float>(from); }
};

struct Bfloat16 {
    static float read(const std::byte* from) { return float_of_bfloat16(load<std::uint16_t>(from)); }
};

struct Float16 {
    static float read(const std::byte* from) { return float_of_half(load<std::uint16_t>(from)); }
};

/// Where one task's share is read from next.
struct Cursor {
    const Share* share;
    std::size_t bit;    // of the mask
    std::size_t value;  // of the values
};

/// The cursors of tasks 1..through at the start of a chunk. Mask bits count the weights that earlier tasks left.
std::vector<Cursor> cursors_at(const Chain& chain, std::size_t parameter, std::size_t chunk, int through) {
    std::vector<Cursor> cursors;
    std::size_t free = chunk * kChunk;
    for (int task = 1; task <= through; ++task) {
        const Share& share = chain.deltas[static_cast<std::size_t>(task) - 1].shares[parameter];
        cursors.push_back({&share, free, share.taken_before[chunk]});
        free -= share.taken_before[chunk];
    }
    return cursors;
}

// What follows is compiled once for every processor and once for one with bit manipulation instructions, which takes
// less than half the time. GCC and Clang do so for what is inlined into a function with the target attribute.
#define PACKNET_ALWAYS_INLINE inline __attribute__((always_inline))

template <typename Format>
PACKNET_ALWAYS_INLINE void scatter(std::uint64_t owned, const std::byte* from, std::size_t item, float* out) {
    for (; owned; owned &= owned - 1, from += item) out[lowest_one(owned)] = Format::read(from);
}

PACKNET_ALWAYS_INLINE void scatter(const TensorEntry& values, std::size_t first, std::uint64_t owned, float* out) {
    switch (values.dtype) {
        case Dtype::f32: return scatter<Float32>(owned, values.data + 4 * first, 4, out);
        case Dtype::f16: return scatter<Float16>(owned, values.data + 2 * first, 2, out);
        default: return scatter<Bfloat16>(owned, values.data + 2 * first, 2, out);
    }
}

/// A stretch of weights, and where each task's share of it begins.
struct Stretch {
    const Chain& chain;
    std::vector<Cursor> cursors;  // of tasks 1, 2, ...
    float* values;
    std::uint8_t* owners;  // may be null
    std::size_t size;
};

/// 64 weights at a time: a word of bits says which of them are free, and each task in turn takes some of those.
template <typename Deposit>
PACKNET_ALWAYS_INLINE void decode_stretch(Stretch& stretch, Deposit deposit_bits) {
    for (std::size_t start = 0; start < stretch.size; start += 64) {
        const std::size_t count = std::min<std::size_t>(64, stretch.size - start);
        float* values = stretch.values + start;
        std::uint8_t* owners = stretch.owners ? stretch.owners + start : nullptr;
        std::fill_n(values, count, 0.0f);
        if (owners) std::fill_n(owners, count, std::uint8_t{0});
        std::uint64_t free = ones(count);
        for (std::size_t task = 0; task < stretch.cursors.size() && free; ++task) {
            Cursor& cursor = stretch.cursors[task];
            const TensorEntry& stored = cursor.share->values;
            std::uint64_t owned = free;
            if (!cursor.share->takes_all) {
                const auto left = static_cast<std::size_t>(count_ones(free));
                owned = deposit_bits(read_bits(cursor.share->mask, cursor.bit, left), free);
                cursor.bit += left;
            }
            const auto taken = static_cast<std::size_t>(count_ones(owned));
            if (taken > stored.size - cursor.value) {
                throw Error(stretch.chain.deltas[task].file.path, "it changed while it was read");
            }
            scatter(stored, cursor.value, owned, values);
            cursor.value += taken;
            free &= ~owned;
            if (!owners) continue;
            for (; owned; owned &= owned - 1) owners[lowest_one(owned)] = static_cast<std::uint8_t>(task + 1);
        }
    }
}

void decode_portable(Stretch& stretch) { decode_stretch(stretch, deposit); }

#if defined(__x86_64__)
__attribute__((target("bmi,bmi2,popcnt"))) void decode_bmi2(Stretch& stretch) {
    decode_stretch(stretch, [](std::uint64_t bits, std::uint64_t places) {
        std::uint64_t placed;  // written in assembly, because a lambda does not have its function's target
        __asm__("pdep %2, %1, %0" : "=r"(placed) : "r"(bits), "r"(places));
        return placed;
    });
}
#endif

}  // namespace

std::vector<float> read_floats(const TensorEntry& entry) {
    std::vector<float> values(entry.size);
    if (entry.size) std::memcpy(values.data(), entry.data, entry.size * sizeof(float));
    return values;
}

Processor this_processor() noexcept {
#if defined(__x86_64__)
    static const bool has_them =
        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    if (has_them) return Processor::x86_bmi2;
#endif
    return Processor::any;
}

void decode_chunk(const Chain& chain, std::size_t parameter, std::size_t chunk, int through, float* values,
                  std::uint8_t* owners, Processor processor) {
    const std::size_t begin = chunk * kChunk, end = std::min(begin + kChunk, chain.parameters[parameter].size);
    Stretch stretch{chain, cursors_at(chain, parameter, chunk, through), values, owners, end - begin};
#if defined(__x86_64__)
    if (processor == Processor::x86_bmi2) return decode_bmi2(stretch);
#endif
    static_cast<void>(processor);
    decode_portable(stretch);
}

}  // namespace packnet::detail
