#include "bits.h"

#include <algorithm>
#include <vector>

namespace packnet::detail {
namespace {

/// Of one byte, by places * 256 + bits: 64 KiB, which stays in the processor's cache.
std::vector<std::uint8_t> deposits_of_bytes() {
    std::vector<std::uint8_t> table(256 * 256);
    for (unsigned places = 0; places < 256; ++places) {
        for (unsigned bits = 0; bits < 256; ++bits) {
            unsigned rest = bits, placed = 0;
            for (unsigned place = 1; place < 256; place <<= 1) {
                if (!(places & place)) continue;
                if (rest & 1) placed |= place;
                rest >>= 1;
            }
            table[places * 256 + bits] = static_cast<std::uint8_t>(placed);
        }
    }
    return table;
}

}  // namespace

std::size_t count_ones(Bytes mask, std::size_t from, std::size_t to) {
    std::size_t total = 0;
    for (; from < to; from += 64) {
        total += static_cast<std::size_t>(count_ones(read_bits(mask, from, std::min<std::size_t>(64, to - from))));
    }
    return total;
}

Depositor::Depositor() {
    static const std::vector<std::uint8_t> table = deposits_of_bytes();
    of_bytes_ = table.data();
}

}  // namespace packnet::detail
