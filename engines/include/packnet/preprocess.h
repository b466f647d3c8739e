/// @file
/// From a decoded picture to the pixels that a network sees; `normalise` (input.h) makes its input of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "packnet/api.h"
#include "packnet/error.h"
#include "packnet/input.h"

namespace packnet {

/// A decoded picture, as image libraries give it; the memory is the caller's.
struct Picture {
    const std::uint8_t* pixels;  // [height, width, channels], C order
    int width, height;           // pixels
    int channels;                // 3: RGB, 1: grey
    int orientation = 1;         // as its EXIF data has it (`exif_orientation`): 1 for upright; nothing else than 1..8
};

/// The part of a picture that evaluation sees, as the Python package makes it, by the bit.
///
/// Turned upright where `spec.exif_orientation` says so, framed as `spec.framing` says (docs/format.md), `spec.fill`
/// where the picture does not reach. A spec of one channel sees it in grey (ITU-R 601 luma). Where `spec.boxes` is
/// set, the network was trained on pictures cut to a bounding box: cutting them so is the caller's.
/// @return        uint8 [spec.channels, spec.height, spec.width].
/// @throws Error  a size is not in 1..2^20, there are not 1 or 3 channels, or the orientation is not in 1..8.
PACKNET_API std::vector<std::uint8_t> centre(const InputSpec& spec, const Picture& picture);

/// How a JPEG file is to be turned, 1..8 in EXIF's numbering; 1 for another file, and where it says nothing that can be
/// read. Decoders of pictures leave that to the application, phones leave it to the decoder.
/// @param file    the file's content; `size` bytes.
PACKNET_API int exif_orientation(const void* file, std::size_t size) noexcept;

}  // namespace packnet
