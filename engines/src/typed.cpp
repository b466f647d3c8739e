#include "typed.h"

#include <cmath>
#include <cstring>

#include "narrow.h"
#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

template <typename Bits>
void mask_bits(const std::byte* values, const std::uint8_t* ranks, std::byte* out, std::size_t begin, std::size_t end,
               std::uint8_t task) {
    for (std::size_t i = begin; i < end; ++i) {
        Bits bits;
        std::memcpy(&bits, values + i * sizeof bits, sizeof bits);
        bits = ranks[i] < task ? bits : Bits{0};
        std::memcpy(out + i * sizeof bits, &bits, sizeof bits);
    }
}

}  // namespace

void convert(const std::string& name, Precision type, const float* values, std::byte* out, std::size_t begin,
             std::size_t end) {
    if (type == Precision::fp32) {
        std::memcpy(out + begin * 4, values + begin, (end - begin) * 4);
        return;
    }
    for (std::size_t i = begin; i < end; ++i) {
        const bool half = type == Precision::fp16;
        const std::uint16_t bits = half ? half_of(values[i]) : bfloat16_of(values[i]);
        const std::uint16_t infinite = half ? 0x7c00 : 0x7f80;
        if ((bits & 0x7fff) == infinite && !std::isinf(values[i])) {
            throw Error({}, "tensor " + in_quotes(name), std::string("values that fit ") + name_of(type),
                        std::to_string(values[i]), "use a plan of fp32 or bf16");
        }
        std::memcpy(out + 2 * i, &bits, 2);
    }
}

void mask(Precision type, const std::byte* values, const std::uint8_t* ranks, std::byte* out, std::size_t begin,
          std::size_t end, std::uint8_t task) {
    const auto masked = type == Precision::fp32 ? mask_bits<std::uint32_t> : mask_bits<std::uint16_t>;
    masked(values, ranks, out, begin, end, task);
}

}  // namespace packnet::detail
