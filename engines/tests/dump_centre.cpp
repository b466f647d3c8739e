// packnet-dump-centre LIST: what the network sees of pictures, for comparison with Python's preprocessing. LIST is
// JSON:
//
//     [{"input": as in pack.json, "file": RAW, "width": 640, "height": 480, "channels": 3, "orientation": 1}, ...]
//     [{"exif": FILE}, ...]
//
// RAW holds the pixels, [height, width, channels]. One line for each: SHA-256 of the pixels that are left,
// or how FILE is to be turned.

#include <iostream>

#include "field.h"
#include "golden.h"
#include "packnet/preprocess.h"
#include "sha256.h"

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    for (const Json& item : parsed(read_file(argv[1]))) {
        if (item.contains("exif")) {
            const std::string file = read_file(item["exif"].get<std::string>());
            std::cout << packnet::exif_orientation(file.data(), file.size()) << '\n';
            continue;
        }
        const std::string name = "a test's input";
        const packnet::InputSpec spec = packnet::detail::parse_input({name, "", item["input"]});
        const std::string raw = read_file(item["file"].get<std::string>());
        const auto* pixels = reinterpret_cast<const std::uint8_t*>(raw.data());
        const auto seen =
            packnet::centre(spec, {pixels, item["width"], item["height"], item["channels"], item["orientation"]});
        std::cout << packnet::detail::sha256(seen.data(), seen.size()) << '\n';
    }
}
