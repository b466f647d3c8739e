// Fuzz target for the reader, in libFuzzer's shape. The first byte of an input says which file of the golden pack the
// rest takes the place of: pack.json, one of its deltas, or a plan's sidecar. Hashes are not looked at, so that
// everything behind them is reached. Whatever comes, only packnet::Error may come out, in one short line; what is
// accepted must decode.

#include <cstdint>
#include <cstdlib>

#include "decode.h"
#include "golden.h"
#include "manifest.h"
#include "sidecar.h"

using namespace packnet::detail;

namespace {

void decode_all(const Chain& chain) {
    const int tasks = static_cast<int>(chain.deltas.size());
    for (std::size_t i = 0; i < chain.parameters.size(); ++i) {
        std::vector<float> values(chain.parameters[i].size);
        std::vector<std::uint8_t> owners(values.size());
        for (std::size_t chunk = 0; chunk < chunks_of(chain.parameters[i]); ++chunk) {
            decode_chunk(chain, i, chunk, tasks, &values[chunk * kChunk], &owners[chunk * kChunk]);
        }
        for (std::size_t weight = 0; weight < owners.size(); ++weight) {
            if (owners[weight] > tasks || (owners[weight] == 0 && values[weight] != 0)) std::abort();
        }
    }
}

void read(std::size_t replaced, const std::string& content) {
    static const std::string manifest = read_file(golden_path() / "pack.json");
    const ExactBytes json(replaced == 0 ? content : manifest);
    const packnet::Pack pack = parse_manifest("x.pack", json);
    std::vector<ExactBytes> files;
    for (std::size_t i = 0; i < pack.tasks.size() && i < golden_deltas().size(); ++i) {
        files.emplace_back(replaced == i + 1 ? content : golden_deltas()[i]);
    }
    const Chain chain = check_chain(pack, {files.begin(), files.end()});
    for (const Delta& delta : chain.deltas) read_floats(*delta.file.find("probe/logits"));
    decode_all(chain);
}

}  // namespace

/// 0 if the input was accepted, -1 if it was refused.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return -1;
    try {
        const std::string content(reinterpret_cast<const char*>(data) + 1, size - 1);
        if (data[0] % 5 == 4) {
            parse_sidecar("x.plan.json", ExactBytes(content));
        } else {
            read(data[0] % 5, content);
        }
    } catch (const packnet::Error& error) {
        const std::string line = error.what();
        if (line.size() > 2000 || line.find_first_of("\n\r\x1b") != std::string::npos) std::abort();
        return -1;
    }
    return 0;
}
