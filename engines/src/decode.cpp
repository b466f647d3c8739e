#include "decode.h"

#include <algorithm>
#include <array>
#include <cstring>

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

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

// What follows is compiled for any processor, and for those with better instructions, which take less than half the
// time. GCC and Clang do so for what is inlined into a function with the target attribute.
#define PACKNET_ALWAYS_INLINE inline __attribute__((always_inline))

template <typename Format>
PACKNET_ALWAYS_INLINE void scatter(std::uint64_t owned, const std::byte* from, std::size_t item, float* out) {
    for (; owned; owned &= owned - 1, from += item) out[lowest_one(owned)] = Format::read(from);
}

/// 64 weights, or fewer at the end of a chunk, of which some are a task's own.
struct Word {
    std::uint64_t owned;
    float* out;
    std::size_t size;  // of `out`
};

/// What every processor can.
struct Portable {
    Depositor deposit;

    static std::size_t count(std::uint64_t bits) { return count_ones_by_byte(bits) * 0x0101010101010101 >> 56; }

    /// @param readable  how many floats lie at `from`: at least as many as are owned.
    static void scatter_floats(const Word& word, const std::byte* from, std::size_t readable) {
        static_cast<void>(readable);
        scatter<Float32>(word.owned, from, 4, word.out);
    }
};

template <typename Instructions>
PACKNET_ALWAYS_INLINE void scatter(const TensorEntry& values, std::size_t first, const Word& word) {
    switch (values.dtype) {
        case Dtype::f32: return Instructions::scatter_floats(word, values.data + 4 * first, values.size - first);
        case Dtype::f16: return scatter<Float16>(word.owned, values.data + 2 * first, 2, word.out);
        default: return scatter<Bfloat16>(word.owned, values.data + 2 * first, 2, word.out);
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
template <typename Instructions>
PACKNET_ALWAYS_INLINE void decode_stretch(Stretch& stretch, const Instructions& instructions) {
    for (std::size_t start = 0; start < stretch.size; start += 64) {
        const std::size_t count = std::min<std::size_t>(64, stretch.size - start);
        float* values = stretch.values + start;
        std::uint8_t* owners = stretch.owners ? stretch.owners + start : nullptr;
        std::fill_n(values, count, 0.0f);
        if (owners) std::fill_n(owners, count, std::uint8_t{0});
        std::uint64_t free = ones(count);
        std::size_t left = count;  // bits of `free`
        for (std::size_t task = 0; task < stretch.cursors.size() && left; ++task) {
            Cursor& cursor = stretch.cursors[task];
            const TensorEntry& stored = cursor.share->values;
            std::uint64_t owned = free;
            std::size_t taken = left;
            if (!cursor.share->takes_all) {
                owned = instructions.deposit(read_bits(cursor.share->mask, cursor.bit, left), free);
                taken = Instructions::count(owned);
                cursor.bit += left;
            }
            if (taken > stored.size - cursor.value) {
                throw Error(stretch.chain.deltas[task].file.path, "it changed while it was read");
            }
            scatter<Instructions>(stored, cursor.value, {owned, values, count});
            cursor.value += taken;
            left -= taken;
            free &= ~owned;
            if (!owners) continue;
            for (; owned; owned &= owned - 1) owners[lowest_one(owned)] = static_cast<std::uint8_t>(task + 1);
        }
    }
}

void decode_portable(Stretch& stretch) { decode_stretch(stretch, Portable{}); }

#if defined(__x86_64__)
struct Bmi2 {
    static std::uint64_t deposit(std::uint64_t bits, std::uint64_t places) {
        std::uint64_t placed;  // written in assembly, because this function has not its caller's target
        __asm__("pdep %2, %1, %0" : "=r"(placed) : "r"(bits), "r"(places));
        return placed;
    }
    static std::size_t count(std::uint64_t bits) { return static_cast<std::size_t>(count_ones(bits)); }
    static void scatter_floats(const Word& word, const std::byte* from, std::size_t) {
        scatter<Float32>(word.owned, from, 4, word.out);
    }
};

__attribute__((target("bmi,bmi2,popcnt"))) void decode_bmi2(Stretch& stretch) { decode_stretch(stretch, Bmi2{}); }
#elif defined(__aarch64__)
/// Places of four values among four weights, by the bits of those that are owned: bytes of a table look-up, of which
/// 255 gives zero.
std::array<std::array<std::uint8_t, 16>, 16> places_of_four() {
    std::array<std::array<std::uint8_t, 16>, 16> places;
    for (unsigned owned = 0; owned < 16; ++owned) {
        std::uint8_t next = 0;
        for (unsigned byte = 0; byte < 16; ++byte) {
            const bool is_owned = owned >> byte / 4 & 1;
            places[owned][byte] = is_owned ? next++ : std::uint8_t{255};
        }
    }
    return places;
}

struct Neon {
    Depositor deposit;

    static std::size_t count(std::uint64_t bits) { return static_cast<std::size_t>(count_ones(bits)); }

    /// Four weights at a time. What other tasks have among them is there already, and stays.
    static void scatter_floats(const Word& word, const std::byte* from, std::size_t readable) {
        static const std::array<std::array<std::uint8_t, 16>, 16> places = places_of_four();
        if (readable < 64 || word.size < 64) return scatter<Float32>(word.owned, from, 4, word.out);
        for (std::size_t first = 0; first < 64; first += 4) {
            const std::uint64_t owned = word.owned >> first & 15;
            const uint8x16_t values = vld1q_u8(reinterpret_cast<const std::uint8_t*>(from));
            const uint8x16_t placed = vqtbl1q_u8(values, vld1q_u8(places[owned].data()));
            auto* const out = reinterpret_cast<std::uint8_t*>(word.out + first);
            vst1q_u8(out, vorrq_u8(vld1q_u8(out), placed));
            from += 4 * count_ones(owned);
        }
    }
};

void decode_neon(Stretch& stretch) { decode_stretch(stretch, Neon{}); }
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
    return has_them ? Processor::x86_bmi2 : Processor::any;
#elif defined(__aarch64__)
    return Processor::arm_neon;  // every one has it
#else
    return Processor::any;
#endif
}

void decode_chunk(const Chain& chain, std::size_t parameter, std::size_t chunk, int through, float* values,
                  std::uint8_t* owners, Processor processor) {
    const std::size_t begin = chunk * kChunk, end = std::min(begin + kChunk, chain.parameters[parameter].size);
    Stretch stretch{chain, cursors_at(chain, parameter, chunk, through), values, owners, end - begin};
#if defined(__x86_64__)
    if (processor == Processor::x86_bmi2) return decode_bmi2(stretch);
#elif defined(__aarch64__)
    if (processor == Processor::arm_neon) return decode_neon(stretch);
#endif
    static_cast<void>(processor);
    decode_portable(stretch);
}

}  // namespace packnet::detail
