/// @file
/// SHA-256 (FIPS 180-4), so that the library needs no cryptography package for its one hash.
///
/// Every byte of a pack is hashed before it is used: for VGG-16 that is more time than all the rest. Processors with
/// SHA instructions, x86's or ARM's, take about a fifth of the portable code's time, chosen when the program runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace packnet::detail {

class Sha256 {
public:
    void update(const void* data, std::size_t bytes);

    /// 64 lower-case hex digits; the object is spent.
    std::string hex();

private:
    std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> rest_;  // bytes that fill no block yet
    std::uint64_t total_ = 0;            // bytes so far
};

/// Hash of one buffer, as hex digits.
std::string sha256(const void* data, std::size_t bytes);

/// Mix `blocks` blocks of 64 bytes into a state.
using Compress = void (*)(std::uint32_t* state, const std::uint8_t* data, std::size_t blocks);

void compress_portable(std::uint32_t* state, const std::uint8_t* data, std::size_t blocks);

/// The one that uses this processor's SHA instructions; null where it has none that we know.
Compress hardware_compress() noexcept;

extern const std::array<std::uint32_t, 64> kSha256Constants;

}  // namespace packnet::detail
