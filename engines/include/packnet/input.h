/// @file
/// What a pack's network takes as input, and the probe batch that every export is held against.
///
/// Turning a picture into its pixels is preprocess.h's; decoding image files is the application's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace packnet {

inline constexpr int kProbeImages = 4;

/// The input of every task of a pack: RGB (3) or grey (1) images, channels first.
///
/// An image is resized so that its shorter side has `resize` pixels (bilinear, antialiased), its centre
/// `height` x `width` is cut out, then `(pixel / 255 - mean) / stddev` taken per channel, in float32.
struct InputSpec {
    int channels, height, width;  // width and height in pixels
    std::vector<float> mean;      // [channels], of pixels scaled to 0..1
    std::vector<float> stddev;    // [channels]
    int resize;                   // pixels

    /// Numbers in one image: channels * height * width.
    std::size_t image_size() const;

    /// Hash of the description, over the ASCII text of docs/format.md: 64 lower-case hex digits.
    std::string sha256() const;
};

/// The network's input for `images` images.
/// @param pixels  uint8 [images, channels, height, width].
/// @param out     float32 of the same shape; the caller's memory. Equal to the Python package's by the bit.
void normalise(const InputSpec& spec, const std::uint8_t* pixels, std::size_t images, float* out);

/// The probe images: uint8 [kProbeImages, channels, height, width], made from integers alone.
std::vector<std::uint8_t> probe_pixels(const InputSpec& spec);

/// The normalised probe batch: float32 [kProbeImages, channels, height, width].
std::vector<float> probe_batch(const InputSpec& spec);

}  // namespace packnet
