#include "ordered_bank.h"

#include <algorithm>
#include <cstring>

#include "bits.h"

namespace packnet::detail {

Between between(int source, int target) noexcept {
    return {std::min(source, target), std::max(source, target), target > source};
}

void switch_in_place(std::byte* out, const OrderedBank& bank, std::size_t item, int source, int target) {
    const Between owners = between(source, target);
    for (auto row = static_cast<std::size_t>(owners.first); row < static_cast<std::size_t>(owners.last); ++row) {
        const std::uint32_t* const masks = &bank.masks[row * bank.tiles * kWords];
        const std::byte* value = bank.values.data() + bank.before[row * (bank.tiles + 1)] * item;
        for (std::size_t word = 0; word < bank.tiles * kWords; ++word) {
            for (std::uint64_t owned = masks[word]; owned; owned &= owned - 1) {
                std::byte* const place = out + (32 * word + static_cast<std::size_t>(lowest_one(owned))) * item;
                if (owners.up) {
                    std::memcpy(place, value, item);
                    value += item;
                } else {
                    std::memset(place, 0, item);
                }
            }
        }
    }
}

}  // namespace packnet::detail
