#include "packnet/input.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "boundary.h"
#include "sha256.h"

namespace packnet {
namespace {

constexpr std::uint32_t kProbeCell = 4;       // side of a probe image's square cells, pixels
constexpr std::uint32_t kMaxSide = 1u << 14;  // of an image, pixels

/// Each number as the 8 hex digits of its float32 bits, most significant first.
std::string hex_bits(const std::vector<float>& numbers) {
    constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (float number : numbers) {
        std::uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        text += ' ';
        for (int shift = 28; shift >= 0; shift -= 4) text += digits[bits >> shift & 15];
    }
    return text;
}

std::uint8_t probe_pixel(std::uint32_t plane, std::uint32_t y, std::uint32_t x) {
    std::uint32_t state = (plane * kMaxSide + y / kProbeCell) * kMaxSide + x / kProbeCell + 0x9E3779B9u;
    state = (state ^ state >> 16) * 0x85EBCA6Bu;
    state = (state ^ state >> 13) * 0xC2B2AE35u;
    return static_cast<std::uint8_t>((state ^ state >> 16) >> 24);
}

}  // namespace

std::size_t InputSpec::image_size() const {
    return static_cast<std::size_t>(channels) * static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
}

const char* name_of(Framing framing) noexcept {
    switch (framing) {
        case Framing::whole: return "whole";
        case Framing::pad: return "pad";
        case Framing::crop: break;
    }
    return "crop";
}

InputSpec InputSpec::sized(int side) const {
    InputSpec spec = *this;
    const double scaled = static_cast<double>(resize) * side / std::min(height, width);
    spec.resize = static_cast<int>(std::nearbyint(scaled));  // half to even, as in Python
    spec.height = spec.width = side;
    return spec;
}

std::string InputSpec::sha256() const try {
    std::string text = "layout NCHW\nshape " + std::to_string(channels) + ' ' + std::to_string(height) + ' ' +
                       std::to_string(width) + "\nmean" + hex_bits(mean) + "\nstd" + hex_bits(stddev) + "\nresize " +
                       std::to_string(resize) + '\n';
    // What images were treated like before there was a choice goes without saying.
    if (framing != Framing::crop) text += std::string("framing ") + name_of(framing) + '\n';
    if (fill != 0) text += "fill " + std::to_string(fill) + '\n';
    if (boxes) text += "boxes true\n";
    if (exif_orientation) text += "exif_orientation true\n";
    detail::Sha256 hash;
    hash.update(text.data(), text.size());
    return hash.hex();
} catch (...) {
    detail::rethrow_as_error({});
}

void normalise(const InputSpec& spec, const std::uint8_t* pixels, std::size_t images, float* out) {
    const std::size_t plane = static_cast<std::size_t>(spec.height) * static_cast<std::size_t>(spec.width);
    for (std::size_t image = 0; image < images; ++image) {
        for (std::size_t channel = 0; channel < spec.mean.size(); ++channel) {
            const float mean = spec.mean[channel], stddev = spec.stddev[channel];
            for (std::size_t i = 0; i < plane; ++i) *out++ = (static_cast<float>(*pixels++) / 255.0f - mean) / stddev;
        }
    }
}

std::vector<std::uint8_t> probe_pixels(const InputSpec& spec) try {
    std::vector<std::uint8_t> pixels;
    pixels.reserve(kProbeImages * spec.image_size());
    const auto planes = static_cast<std::uint32_t>(kProbeImages * spec.channels);
    for (std::uint32_t plane = 0; plane < planes; ++plane) {
        for (std::uint32_t y = 0; y < static_cast<std::uint32_t>(spec.height); ++y) {
            for (std::uint32_t x = 0; x < static_cast<std::uint32_t>(spec.width); ++x) {
                pixels.push_back(probe_pixel(plane, y, x));
            }
        }
    }
    return pixels;
} catch (...) {
    detail::rethrow_as_error({});
}

std::vector<float> probe_batch(const InputSpec& spec) try {
    const std::vector<std::uint8_t> pixels = probe_pixels(spec);
    std::vector<float> batch(pixels.size());
    normalise(spec, pixels.data(), kProbeImages, batch.data());
    return batch;
} catch (...) {
    detail::rethrow_as_error({});
}

}  // namespace packnet
