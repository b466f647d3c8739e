/// @file
/// float16 and bfloat16 as their bits, to and from float32: rounded to nearest, ties to even, on every processor.
#pragma once

#include <cstdint>
#include <cstring>

namespace packnet::detail {

inline float float_of_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

/// A bfloat16 is the upper half of a float32.
inline float float_of_bfloat16(std::uint16_t bfloat16) { return float_of_bits(std::uint32_t{bfloat16} << 16); }

inline float float_of_half(std::uint16_t half) {
    const std::uint32_t sign = std::uint32_t{half} >> 15 << 31, exponent = half >> 10 & 31u, fraction = half & 1023u;
    if (exponent == 0) {  // zero or subnormal: a whole number of 2^-24
        const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    const std::uint32_t widened = exponent == 31 ? 255 : exponent + (127 - 15);  // 31: infinite or not a number
    return float_of_bits(sign | widened << 23 | fraction << 13);
}

/// Drop the lowest `count` bits, 1 <= count <= 31, rounded to nearest, ties to even.
inline std::uint32_t rounded_off(std::uint32_t bits, unsigned count) {
    const std::uint32_t odd = bits >> count & 1;
    return (bits + (1u << (count - 1)) - 1 + odd) >> count;
}

inline std::uint16_t bfloat16_of(float value) {
    const std::uint32_t bits = bits_of(value);
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    return static_cast<std::uint16_t>(is_nan ? (bits >> 31 << 15 | 0x7fc0) : rounded_off(bits, 16));
}

inline std::uint16_t half_of(float value) {
    const std::uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
    std::uint32_t half;
    if (magnitude > 0x7f800000) {  // not a number: stays one
        half = 0x7e00;
    } else if (magnitude >= 0x47800000) {  // 2^16 and more
        half = 0x7c00;
    } else if (magnitude >= 0x38800000) {  // normal: from 2^-14; rounding may carry into the exponent, up to infinity
        half = rounded_off(magnitude - (112u << 23), 13);
    } else if (magnitude >= 0x33000000) {  // subnormal: from half of 2^-24
        const unsigned exponent = magnitude >> 23;
        half = rounded_off((magnitude & 0x7fffff) | 0x800000, 126 - exponent);
    } else {
        half = 0;
    }
    return static_cast<std::uint16_t>(bits >> 31 << 15 | half);
}

}  // namespace packnet::detail
