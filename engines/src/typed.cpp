#include "typed.h"

#include <cmath>
#include <cstring>

#include "float16.h"
#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {

void convert(const std::string& name, Precision type, const float* values, std::byte* out, std::size_t count) {
    if (type == Precision::fp32) {
        std::memcpy(out, values, count * sizeof(float));
        return;
    }
    const bool half = type == Precision::fp16;
    const std::uint16_t infinite = half ? 0x7c00 : 0x7f80;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t bits = half ? half_of(values[i]) : bfloat16_of(values[i]);
        if ((bits & 0x7fff) == infinite && !std::isinf(values[i])) {
            throw Error({}, "tensor " + in_quotes(name), std::string("values that fit ") + name_of(type),
                        std::to_string(values[i]), "use a plan of fp32 or bf16");
        }
        std::memcpy(out + 2 * i, &bits, 2);
    }
}

}  // namespace packnet::detail
