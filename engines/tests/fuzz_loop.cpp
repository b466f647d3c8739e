// Drives the fuzz target where libFuzzer is not to be had: `fuzz_reader [INPUTS]`, mutations of the golden pack's files
// from a fixed seed. Prints how many were accepted: neither all nor none, or the mutations are of no use.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "golden.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937;

std::size_t below(Random& random, std::size_t limit) { return limit ? random() % limit : 0; }

const std::string kWords[] = {"0",
                              "-1",
                              "1",
                              "9",
                              "1e999",
                              "1.5",
                              "NaN",
                              "null",
                              "true",
                              "{}",
                              "[]",
                              "\"\"",
                              "\"\\ud800\"",
                              "\\u0000",
                              "\n",
                              "18446744073709551616",
                              std::string(5000, '9'),
                              std::string(200, '['),
                              "F16",
                              "BF16",
                              "U8",
                              "mask/conv1.weight"};

/// Where a token of JSON may begin.
bool opens(char c) { return c == ' ' || c == ',' || c == ':' || c == '[' || c == '{' || c == '"'; }

void replace_token(std::string& text, Random& random) {
    std::size_t begin = below(random, text.size());
    while (begin < text.size() && !opens(text[begin])) ++begin;
    while (begin < text.size() && opens(text[begin])) ++begin;
    const std::size_t end = std::min(text.find_first_of(",]}\"", begin), text.size());
    text.replace(std::min(begin, text.size()), end - std::min(begin, end), kWords[below(random, std::size(kWords))]);
}

void mutate(std::string& bytes, Random& random) {
    const std::size_t place = below(random, bytes.size());
    switch (random() % 6) {
        case 0: bytes[place] = static_cast<char>(random()); break;
        case 1: bytes[place] ^= static_cast<char>(1 << random() % 8); break;
        case 2: bytes.erase(place, random() % 20); break;
        case 3: bytes.insert(place, bytes.substr(place, random() % 40)); break;
        default: replace_token(bytes, random); break;
    }
    if (bytes.empty()) bytes = " ";
}

/// A mutation of a delta: of its data, of its header (whose length is put right again), or of any byte of it.
std::string mutated_delta(const std::string& file, Random& random) {
    const std::size_t start =
        8 + (static_cast<unsigned char>(file[0]) | static_cast<std::size_t>(static_cast<unsigned char>(file[1])) << 8);
    std::string head = file.substr(8, start - 8), body = file.substr(start);
    switch (random() % 4) {
        case 0: {
            std::string whole = file;
            mutate(whole, random);
            return whole;
        }
        case 1: body[below(random, body.size())] ^= static_cast<char>(1 << random() % 8); break;
        default: mutate(head, random); break;
    }
    std::string length;
    for (std::size_t i = 0; i < 8; ++i) length += static_cast<char>(head.size() >> 8 * i & 255);
    return length + head + body;
}

}  // namespace

int main(int argc, char** argv) {
    const int inputs = argc > 1 ? std::atoi(argv[1]) : 20000;
    const std::string manifest = read_file(golden_path() / "pack.json"), sidecar = golden_sidecar();
    Random random(7);
    int accepted = 0;
    for (int i = 0; i < inputs; ++i) {
        const int file = i % 5;  // as the target has it
        std::string content = file == 4 ? sidecar : manifest;
        if (0 < file && file < 4) {
            content = mutated_delta(golden_deltas()[static_cast<std::size_t>(file - 1)], random);
        } else {
            for (std::size_t edits = 1 + random() % 3; edits > 0; --edits) mutate(content, random);
        }
        const std::string input = static_cast<char>(file) + content;
        accepted += LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size()) == 0;
    }
    std::printf("%d inputs, %d accepted\n", inputs, accepted);
    return accepted == 0 || accepted == inputs;
}
