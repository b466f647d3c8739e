// packnet-dump-centre LIST: what the network sees of pictures, for comparison with Python's preprocessing. LIST is
// JSON:
//
//     [{"input": as in pack.json, "file": RAW, "width": 640, "height": 480, "channels": 3, "orientation": 1}, ...]
//     [{"exif": FILE}, ...]
//
// RAW holds the pixels, [height, width, channels]. One line for each: SHA-256 of the pixels that are left,
// or how FILE is to be turned.

#include <iostream>

#include "golden.h"
#include "json_field.h"
#include "packnet/preprocess.h"
#include "sha256.h"

namespace {

using packnet::detail::Field;

void dump(const Field& item) {
    if (const auto exif = item.find("exif")) {
        const std::string file = read_file(exif->printable());
        std::cout << packnet::exif_orientation(file.data(), file.size()) << '\n';
        return;
    }
    const auto number = [&](const char* key) { return static_cast<int>(item.at(key).count()); };
    const packnet::InputSpec spec = packnet::detail::parse_input(item.at("input"));
    const std::string raw = read_file(item.at("file").printable());
    const auto* pixels = reinterpret_cast<const std::uint8_t*>(raw.data());
    const auto seen =
        packnet::centre(spec, {pixels, number("width"), number("height"), number("channels"), number("orientation")});
    std::cout << packnet::detail::sha256(seen.data(), seen.size()) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const std::string text = read_file(argv[1]), name = argv[1];
    Field{name, "", packnet::detail::parse_json(text, name, "damaged")}.for_each(dump);
}
