#include "parity.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace packnet::detail {

packnet_difference difference_of(const std::vector<float>& got, const std::vector<float>& expected,
                                 Precision precision) {
    const double share = precision == Precision::fp32 ? 1e-4 : precision == Precision::fp16 ? 1e-2 : 5e-2;
    packnet_difference difference{0, 0, 0};
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double distance = std::abs(double{got[i]} - double{expected[i]});
        difference.largest =
            std::isfinite(distance) ? std::max(difference.largest, distance) : std::numeric_limits<double>::infinity();
        if (!std::isfinite(distance)) break;
        difference.scale = std::max(difference.scale, std::abs(double{expected[i]}));
    }
    difference.allowed = share * difference.scale;
    return difference;
}

}  // namespace packnet::detail
