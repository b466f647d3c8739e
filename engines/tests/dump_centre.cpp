// packnet-dump-centre LIST: what the network sees of pictures, for comparison with Python's preprocessing. LIST is
// JSON:
//
//     [{"shape": [3, 224, 224], "resize": 256, "file": RAW, "width": 640, "height": 480, "channels": 3}, ...]
//
// RAW holds the pixels, [height, width, channels]. One line for each: SHA-256 of the pixels that are left.

#include <iostream>

#include "golden.h"
#include "packnet/preprocess.h"
#include "sha256.h"

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    for (const Json& item : parsed(read_file(argv[1]))) {
        packnet::InputSpec spec{item["shape"][0], item["shape"][1], item["shape"][2], {}, {}, item["resize"]};
        const std::string raw = read_file(item["file"].get<std::string>());
        const auto* pixels = reinterpret_cast<const std::uint8_t*>(raw.data());
        const auto seen = packnet::centre(spec, {pixels, item["width"], item["height"], item["channels"]});
        std::cout << packnet::detail::sha256(seen.data(), seen.size()) << '\n';
    }
}
