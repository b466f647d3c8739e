// The one tag of EXIF data that changes pixels. JPEG: segments of a marker, a length and content, up to the pixels;
// EXIF data are a TIFF header and a table of tags in one of them. It is somebody's file: every place is checked.

#include <string_view>

#include "packnet/preprocess.h"

namespace packnet {
namespace {

constexpr unsigned kOrientation = 0x0112;  // the tag
constexpr unsigned kShort = 3, kLong = 4;  // types that it comes in

/// Bytes that are read as numbers of either order; 0 where there are none, which means nothing anywhere below.
struct Reader {
    std::string_view bytes;
    bool big_endian = true;

    unsigned number(std::size_t place, std::size_t size) const {
        if (place > bytes.size() || size > bytes.size() - place) return 0;
        unsigned value = 0;
        for (std::size_t i = 0; i < size; ++i) {
            const std::size_t at = big_endian ? place + i : place + size - 1 - i;
            value = value << 8 | static_cast<unsigned char>(bytes[at]);
        }
        return value;
    }
};

int orientation_of_tiff(std::string_view tiff) {
    const Reader reader{tiff, tiff.substr(0, 2) == "MM"};
    if (!reader.big_endian && tiff.substr(0, 2) != "II") return 1;
    const std::size_t table = reader.number(4, 4);
    const unsigned tags = reader.number(table, 2);
    for (unsigned i = 0; i < tags; ++i) {
        const std::size_t tag = table + 2 + std::size_t{12} * i;
        if (reader.number(tag, 2) != kOrientation || reader.number(tag + 4, 4) != 1) continue;
        const unsigned type = reader.number(tag + 2, 2), size = type == kShort ? 2 : type == kLong ? 4 : 0;
        const unsigned value = reader.number(tag + 8, size);
        return 1 <= value && value <= 8 ? static_cast<int>(value) : 1;
    }
    return 1;
}

}  // namespace

int exif_orientation(const void* file, std::size_t size) noexcept {
    using namespace std::string_view_literals;
    constexpr unsigned start = 0xFFD8, pixels = 0xFFDA, application = 0xFFE1;
    constexpr std::string_view mark = "Exif\0\0"sv;
    const Reader jpeg{{static_cast<const char*>(file), size}};
    if (jpeg.number(0, 2) != start) return 1;
    std::size_t place = 2;
    for (;;) {
        const unsigned marker = jpeg.number(place, 2);
        const std::size_t length = jpeg.number(place + 2, 2);  // its own two bytes included
        if (marker >> 8 != 0xFF || marker == pixels || length < 2) return 1;
        const std::string_view content = jpeg.bytes.substr(place + 4 < size ? place + 4 : size, length - 2);
        if (marker == application && content.substr(0, mark.size()) == mark) {
            return orientation_of_tiff(content.substr(mark.size()));
        }
        place += 2 + length;
    }
}

}  // namespace packnet
