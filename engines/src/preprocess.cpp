#include "packnet/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "boundary.h"

namespace packnet {
namespace {

constexpr int kMaxSide = 1 << 20;  // pixels
constexpr int kShift = 22;         // weights of pixels are whole numbers of 2^-22, as in Pillow

/// What one pixel of a resized side is made of: `weights[i]` of pixel `first + i` of the original.
struct Tap {
    int first;
    std::vector<int> weights;
};

/// Part `offset .. offset + count` of a side of `from` pixels that becomes `to` long; empty taps outside of it.
/// A triangle as wide as the step from pixel to pixel, and no narrower than the original's pixels.
std::vector<Tap> make_taps(int from, int to, int offset, int count) {
    const double scale = static_cast<double>(from) / to, width = std::max(scale, 1.0);
    std::vector<Tap> taps;
    for (int position = offset; position < offset + count; ++position) {
        Tap tap{0, {}};
        if (0 <= position && position < to) {
            const double centre = (position + 0.5) * scale;
            tap.first = std::max(0, static_cast<int>(centre - width + 0.5));
            const int end = std::min(from, static_cast<int>(centre + width + 0.5));
            std::vector<double> weights;
            double total = 0;
            for (int pixel = tap.first; pixel < end; ++pixel) {
                weights.push_back(std::max(0.0, 1.0 - std::abs((pixel - centre + 0.5) * (1.0 / width))));
                total += weights.back();
            }
            for (double weight : weights) tap.weights.push_back(static_cast<int>(0.5 + weight / total * (1 << kShift)));
        }
        taps.push_back(std::move(tap));
    }
    return taps;
}

/// Sum of weighted pixels that lie `stride` apart.
std::uint8_t sum(const Tap& tap, const std::uint8_t* pixels, std::size_t stride) {
    int total = 1 << (kShift - 1);  // so that the shift rounds
    const std::uint8_t* pixel = pixels + static_cast<std::size_t>(tap.first) * stride;
    for (int weight : tap.weights) {
        total += *pixel * weight;
        pixel += stride;
    }
    return static_cast<std::uint8_t>(std::clamp(total >> kShift, 0, 255));
}

/// Where the middle part of a side starts; negative if the part is longer. Odd differences fall as in Python.
int middle(int full, int part) {
    if (full < part) return -((part - full) / 2);
    const int half = (full - part) / 2;
    return half + ((full - part) % 2 && half % 2);  // half to even
}

/// Channel `channel` of what the network sees of one pixel, as Pillow converts it.
std::uint8_t seen(const std::uint8_t* pixel, int picture_channels, int channel, int channels) {
    if (picture_channels == 1) return *pixel;
    if (channels == 3) return pixel[channel];
    return static_cast<std::uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
}

struct Size {
    int width, height;
};

/// What a picture of such a size is resized to.
Size resized(const InputSpec& spec, Size picture) {
    if (spec.framing == Framing::whole) return {spec.width, spec.height};
    if (spec.framing == Framing::pad) {
        const double width = picture.width, height = picture.height;
        const auto rounded = [](double side) { return std::max(1, static_cast<int>(std::nearbyint(side))); };
        if (width / height > static_cast<double>(spec.width) / spec.height) {
            return {spec.width, rounded(height / width * spec.width)};
        }
        return {rounded(width / height * spec.height), spec.height};
    }
    const int shorter = std::min(picture.width, picture.height), longer = std::max(picture.width, picture.height);
    const double product = static_cast<double>(spec.resize) * longer;  // exact: below 2^34
    const int long_side = static_cast<int>(std::min(std::floor(product / shorter), 1e9));
    const bool upright = picture.width <= picture.height;
    return {upright ? spec.resize : long_side, upright ? long_side : spec.resize};
}

/// The picture's pixels as they are seen when it is held upright; `size` becomes theirs.
std::vector<std::uint8_t> turned(const Picture& picture, Size& size) {
    const int turn = picture.orientation;
    const bool lies = turn >= 5, from_right = turn == 2 || turn == 3 || turn >= 7;
    const bool from_below = turn == 3 || turn == 4 || turn == 6 || turn == 7;
    size = lies ? Size{picture.height, picture.width} : Size{picture.width, picture.height};
    const auto channels = static_cast<std::size_t>(picture.channels);
    std::vector<std::uint8_t> pixels;
    pixels.reserve(static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height) * channels);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            const int along = lies ? y : x, down = lies ? x : y;
            const auto column = static_cast<std::size_t>(from_right ? picture.width - 1 - along : along);
            const auto row = static_cast<std::size_t>(from_below ? picture.height - 1 - down : down);
            const std::uint8_t* pixel =
                picture.pixels + (row * static_cast<std::size_t>(picture.width) + column) * channels;
            pixels.insert(pixels.end(), pixel, pixel + channels);
        }
    }
    return pixels;
}

}  // namespace

std::vector<std::uint8_t> centre(const InputSpec& spec, const Picture& picture) try {
    if (picture.channels != 1 && picture.channels != 3) {
        throw Error({}, "picture", "1 or 3 channels", std::to_string(picture.channels));
    }
    for (int side : {picture.width, picture.height}) {
        if (side < 1 || side > kMaxSide) throw Error({}, "picture", "sides of 1..2^20 pixels", std::to_string(side));
    }
    if (picture.orientation < 1 || picture.orientation > 8) {
        throw Error({}, "picture", "an orientation of 1..8", std::to_string(picture.orientation));
    }
    if (spec.exif_orientation && picture.orientation > 1) {
        Size size{};
        const std::vector<std::uint8_t> pixels = turned(picture, size);
        return centre(spec, {pixels.data(), size.width, size.height, picture.channels});
    }
    const auto [width, height] = resized(spec, {picture.width, picture.height});
    const auto columns = make_taps(picture.width, width, middle(width, spec.width), spec.width);
    const auto rows = make_taps(picture.height, height, middle(height, spec.height), spec.height);
    int first_row = picture.height, end_row = 0;  // rows of the picture that any row of the result is made of
    for (const Tap& tap : rows) {
        if (tap.weights.empty()) continue;
        first_row = std::min(first_row, tap.first);
        end_row = std::max(end_row, tap.first + static_cast<int>(tap.weights.size()));
    }
    const auto out_width = static_cast<std::size_t>(spec.width), in_width = static_cast<std::size_t>(picture.width);
    std::vector<std::uint8_t> line(in_width);
    std::vector<std::uint8_t> narrowed(static_cast<std::size_t>(picture.height) * out_width);  // sides: across first
    const auto fill = static_cast<std::uint8_t>(spec.fill);
    std::vector<std::uint8_t> result;
    result.reserve(spec.image_size());
    for (int channel = 0; channel < spec.channels; ++channel) {
        for (int y = first_row; y < end_row; ++y) {
            const auto row = static_cast<std::size_t>(y);
            const std::uint8_t* pixel = picture.pixels + row * in_width * static_cast<std::size_t>(picture.channels);
            for (std::uint8_t& value : line) {
                value = seen(pixel, picture.channels, channel, spec.channels);
                pixel += picture.channels;
            }
            for (std::size_t x = 0; x < out_width; ++x) narrowed[row * out_width + x] = sum(columns[x], line.data(), 1);
        }
        for (const Tap& tap : rows) {
            for (std::size_t x = 0; x < out_width; ++x) {
                const bool reached = !tap.weights.empty() && !columns[x].weights.empty();
                result.push_back(reached ? sum(tap, narrowed.data() + x, out_width) : fill);
            }
        }
    }
    return result;
} catch (...) {
    detail::rethrow_as_error({});
}

}  // namespace packnet
