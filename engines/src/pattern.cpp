#include "pattern.h"

#include <functional>
#include <numeric>

#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {

bool fits_pattern(const std::vector<std::int64_t>& shape) {
    return shape.size() > 1 && shape[1] % static_cast<std::int64_t>(kGroup) == 0;
}

bool obeys_pattern(const std::uint8_t* owners, const std::vector<std::int64_t>& shape) {
    const auto product = std::multiplies<std::int64_t>();
    const auto groups = static_cast<std::size_t>(shape[0] * shape[1]) / kGroup;
    const auto pixels =
        static_cast<std::size_t>(std::accumulate(shape.begin() + 2, shape.end(), std::int64_t{1}, product));
    for (std::size_t group = 0; group < groups; ++group) {
        const std::uint8_t* first = owners + group * kGroup * pixels;
        for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
            int owned = 0;
            for (std::size_t input = 0; input < kGroup; ++input) owned += first[input * pixels + pixel] != 0;
            if (owned > kKept) return false;
        }
    }
    return true;
}

void expect_promised_pattern(const Parameter& parameter, const std::uint8_t* owners) {
    if (parameter.pattern.empty() || obeys_pattern(owners, parameter.shape)) return;
    throw Error({}, "parameter " + in_quotes(parameter.name),
                "the pattern " + parameter.pattern + " that pack.json promises", "a group with more owned weights",
                "use a pack and deltas as they were trained");
}

}  // namespace packnet::detail
