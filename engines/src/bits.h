/// @file
/// Bit masks as a delta stores them: bit i is bit i % 8 (least significant = 0) of byte i / 8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mapped_file.h"

namespace packnet::detail {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packs are little-endian, and are mapped as they are");

inline int count_ones(std::uint64_t bits) { return __builtin_popcountll(bits); }
inline int lowest_one(std::uint64_t bits) { return __builtin_ctzll(bits); }  // bits != 0

/// The lowest `count` bits set, 0 <= count <= 64.
inline std::uint64_t ones(std::size_t count) {
    return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

/// Bits `from .. from + count` of a mask, 0 <= count <= 64; zeros behind its end.
inline std::uint64_t read_bits(Bytes mask, std::size_t from, std::size_t count) {
    const std::size_t byte = from / 8, shift = from % 8;
    std::uint64_t low = 0, high = 0;
    if (byte + 9 <= mask.size) {
        std::memcpy(&low, mask.data + byte, 8);  // little-endian, like the format
        high = std::to_integer<std::uint64_t>(mask.data[byte + 8]);
    } else if (byte < mask.size) {
        std::memcpy(&low, mask.data + byte, mask.size - byte < 8 ? mask.size - byte : 8);
    }
    return (low >> shift | (shift ? high << (64 - shift) : 0)) & ones(count);
}

/// How many of the bits `from .. to` of a mask are 1.
std::size_t count_ones(Bytes mask, std::size_t from, std::size_t to);

/// How many of the bits of each byte are 1, by byte.
inline std::uint64_t count_ones_by_byte(std::uint64_t bits) {
    bits -= bits >> 1 & 0x5555555555555555;
    bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
    return (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
}

/// The lowest bits of `bits`, in order, at the places where `places` is 1: what x86's `pdep` does, for every processor.
class Depositor {
public:
    Depositor();

    std::uint64_t operator()(std::uint64_t bits, std::uint64_t places) const {
        // How many ones lie below each byte: so many bits were used up. No byte waits for the one before it.
        const std::uint64_t below = count_ones_by_byte(places) * 0x0101010101010101 << 8;
        std::uint64_t placed = 0;
        for (int shift = 0; shift < 64; shift += 8) {
            const std::uint64_t byte = places >> shift & 255, used = below >> shift & 255;
            placed |= std::uint64_t{of_bytes_[byte * 256 + (bits >> used & 255)]} << shift;
        }
        return placed;
    }

private:
    const std::uint8_t* of_bytes_;  // by places * 256 + bits
};

}  // namespace packnet::detail
