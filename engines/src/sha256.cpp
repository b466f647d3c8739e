#include "sha256.h"

#include <algorithm>
#include <cstring>

namespace packnet::detail {
namespace {

std::uint32_t rotated(std::uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

std::uint32_t big_endian(const std::uint8_t* bytes) {
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

Compress best_compress() noexcept {
    const Compress hardware = hardware_compress();
    return hardware ? hardware : compress_portable;
}

}  // namespace

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const std::array<std::uint32_t, 64> kSha256Constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

namespace {

/// One round, of which only `d` and `h` come out changed: the next one takes the words one place further, so that none
/// has to move.
inline void round(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t& d, std::uint32_t e, std::uint32_t f,
                  std::uint32_t g, std::uint32_t& h, std::uint32_t added) {
    h += (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + (g ^ (e & (f ^ g))) + added;
    d += h;
    h += (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) | (c & (a | b)));
}

}  // namespace

void compress_portable(std::uint32_t* state, const std::uint8_t* data, std::size_t blocks) {
    for (; blocks; --blocks, data += 64) {
        std::uint32_t w[16];  // the last 16 words of the message
        for (int t = 0; t < 16; ++t) w[t] = big_endian(data + 4 * t);
        std::uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        std::uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (std::size_t start = 0; start < 64; start += 16) {
            const auto added = [&](std::size_t t) {  // in round start + t
                if (start > 0) {
                    const std::uint32_t early = w[(t + 1) % 16], late = w[(t + 14) % 16];
                    w[t] += (rotated(early, 7) ^ rotated(early, 18) ^ early >> 3) + w[(t + 9) % 16] +
                            (rotated(late, 17) ^ rotated(late, 19) ^ late >> 10);
                }
                return w[t] + kSha256Constants[start + t];
            };
            for (std::size_t t = 0; t < 16; t += 8) {
                round(a, b, c, d, e, f, g, h, added(t));
                round(h, a, b, c, d, e, f, g, added(t + 1));
                round(g, h, a, b, c, d, e, f, added(t + 2));
                round(f, g, h, a, b, c, d, e, added(t + 3));
                round(e, f, g, h, a, b, c, d, added(t + 4));
                round(d, e, f, g, h, a, b, c, added(t + 5));
                round(c, d, e, f, g, h, a, b, added(t + 6));
                round(b, c, d, e, f, g, h, a, added(t + 7));
            }
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#if !defined(__x86_64__) && !defined(__aarch64__)
Compress hardware_compress() noexcept { return nullptr; }
#endif

void Sha256::update(const void* data, std::size_t bytes) {
    static const Compress compress = best_compress();
    auto next = static_cast<const std::uint8_t*>(data);
    const std::size_t held = total_ % rest_.size();
    total_ += bytes;
    if (held > 0) {
        const std::size_t taken = std::min(bytes, rest_.size() - held);
        std::copy_n(next, taken, rest_.data() + held);
        next += taken, bytes -= taken;
        if (held + taken < rest_.size()) return;
        compress(state_.data(), rest_.data(), 1);
    }
    compress(state_.data(), next, bytes / rest_.size());
    std::copy_n(next + bytes / rest_.size() * rest_.size(), bytes % rest_.size(), rest_.data());
}

std::string Sha256::hex() {
    std::uint64_t bits = total_ * 8;
    std::array<std::uint8_t, 72> padding = {0x80};  // a one, zeros up to 8 bytes short of a block, the length
    const std::size_t zeros = (64 + 56 - (total_ + 1) % 64) % 64;
    for (std::size_t i = 0; i < 8; ++i, bits <<= 8) padding[1 + zeros + i] = static_cast<std::uint8_t>(bits >> 56);
    update(padding.data(), 1 + zeros + 8);
    constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (std::uint32_t word : state_) {
        for (int shift = 28; shift >= 0; shift -= 4) text += digits[word >> shift & 15];
    }
    return text;
}

std::string sha256(const void* data, std::size_t bytes) {
    Sha256 hash;
    hash.update(data, bytes);
    return hash.hex();
}

}  // namespace packnet::detail
