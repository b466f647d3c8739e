/// @file
/// From a decoded picture to the pixels that a network sees; `normalise` (input.h) makes its input of them.
#pragma once

#include <cstdint>
#include <vector>

#include "packnet/error.h"
#include "packnet/input.h"

namespace packnet {

/// A decoded picture, as image libraries give it; the memory is the caller's.
struct Picture {
    const std::uint8_t* pixels;  // [height, width, channels], C order
    int width, height;           // pixels
    int channels;                // 3: RGB, 1: grey
};

/// The part of a picture that evaluation sees, as the Python package cuts it, by the bit.
///
/// Its shorter side becomes `spec.resize` long (bilinear, antialiased), the longer one keeps the aspect ratio, rounded
/// down; then the middle is cut out, with black where the picture is too small. A spec of one channel sees it in grey
/// (ITU-R 601 luma). EXIF orientation is the caller's to apply, or not: the Python package does not.
/// @return        uint8 [spec.channels, spec.height, spec.width].
/// @throws Error  a size is not in 1..2^20 or there are not 1 or 3 channels.
std::vector<std::uint8_t> centre(const InputSpec& spec, const Picture& picture);

}  // namespace packnet
