/// @file
/// How an image becomes a network's input, and the probe batch that every export is held against.
///
/// Turning a picture into its pixels is preprocess.h's; decoding image files is the application's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "packnet/api.h"

namespace packnet {

inline constexpr int kProbeImages = 4;

/// How an image is brought to the network's height and width; bilinear, antialiased.
enum class Framing {
    crop,   // its shorter side becomes `resize` long, its centre is cut out
    whole,  // squashed, whatever the aspect
    pad,    // as large as fits, the rest filled evenly on both sides
};

PACKNET_API const char* name_of(Framing framing) noexcept;

/// How an image becomes the input of a network, of a pack or of one of its tasks: RGB (3) or grey (1), channels first.
///
/// In this order: cut to its bounding box, turned upright, framed, then `(pixel / 255 - mean) / stddev` taken per
/// channel, in float32. The shape is the network's and all tasks'; the rest may be a task's own.
struct PACKNET_API InputSpec {
    int channels, height, width;  // width and height in pixels
    std::vector<float> mean;      // [channels], of pixels scaled to 0..1
    std::vector<float> stddev;    // [channels]
    int resize;                   // pixels; of the framing crop alone
    Framing framing = Framing::crop;
    int fill = 0;                  // level, 0..255 in every channel, of what an image does not reach
    bool boxes = false;            // pictures are cut to a bounding box first: by whoever gives them to `centre`
    bool exif_orientation = true;  // pictures are turned the way that their EXIF data says

    /// The description for a square input of `side` pixels; `resize` grows in proportion.
    InputSpec sized(int side) const;

    /// Numbers in one image: channels * height * width.
    std::size_t image_size() const;

    /// Hash of the description, over the ASCII text of docs/format.md: 64 lower-case hex digits.
    std::string sha256() const;
};

/// The network's input for `images` images.
/// @param pixels  uint8 [images, channels, height, width].
/// @param out     float32 of the same shape; the caller's memory. Equal to the Python package's by the bit.
PACKNET_API void normalise(const InputSpec& spec, const std::uint8_t* pixels, std::size_t images, float* out);

/// The probe images: uint8 [kProbeImages, channels, height, width], made from integers alone.
PACKNET_API std::vector<std::uint8_t> probe_pixels(const InputSpec& spec);

/// The normalised probe batch: float32 [kProbeImages, channels, height, width].
PACKNET_API std::vector<float> probe_batch(const InputSpec& spec);

}  // namespace packnet
