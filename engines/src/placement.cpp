#include "placement.h"

#include <algorithm>

namespace packnet::detail {

Sizes sizes_of(const EngineWeights& weights) {
    Sizes sizes{};
    const Layout& layout = weights.layout;
    const auto tasks = static_cast<std::size_t>(weights.tasks());
    sizes.fixed = weights.fixed;
    for (const SwitchedWeight& weight : weights.weights) {
        sizes.changing += weight.bytes();
        sizes.largest = std::max(sizes.largest, room_of(weight) * layout.item);
    }
    sizes.positions = weights.bank.masks.size() * sizeof(std::uint32_t);
    sizes.counts = weights.bank.before.size() * sizeof(std::uint32_t);
    sizes.own = tasks * (layout.count - layout.banked) * layout.item;
    return sizes;
}

Placement place(const Sizes& sizes, Switch mode, bool on_device) noexcept {
    const std::size_t tenth = sizes.model() / 10;
    if (on_device) return {true, true, true, mode == Switch::refit ? std::max(sizes.largest, tenth) : 0};
    const std::size_t scratch = mode == Switch::refit ? tenth : 0;
    const std::size_t taken = scratch + sizes.counts;
    std::size_t left = 2 * tenth > taken ? 2 * tenth - taken : 0;
    const bool own = sizes.own <= std::min(tenth, left);
    if (own) left -= sizes.own;
    return {false, sizes.positions <= std::min(tenth, left), own, scratch};
}

}  // namespace packnet::detail
