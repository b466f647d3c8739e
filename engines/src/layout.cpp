#include "layout.h"

namespace packnet::detail {

Layout layout_of(const std::vector<SwitchedWeight>& weights, Precision precision) {
    Layout layout{std::vector<std::size_t>(weights.size()), 0, 0, item_size(precision)};
    for (const bool banked : {true, false}) {
        for (std::size_t i = 0; i < weights.size(); ++i) {
            if (weights[i].banked != banked) continue;
            layout.starts[i] = layout.count;
            layout.count += room_of(weights[i]);
        }
        if (banked) layout.banked = layout.count;
    }
    return layout;
}

std::size_t room_of(const SwitchedWeight& weight) noexcept {
    const std::size_t step = kAlignment / item_size(weight.dtype);
    return (weight.size + step - 1) / step * step;
}

}  // namespace packnet::detail
