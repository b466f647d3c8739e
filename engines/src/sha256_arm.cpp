// SHA-256 by ARMv8's SHA2 instructions: Arm Architecture Reference Manual, DDI 0487, and what each instruction does
// there.

#if defined(__aarch64__)
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "sha256.h"

namespace packnet::detail {
namespace {

// `words` is a window of the last 16 message words, four to a register; each step does four rounds and, until 64 words
// are there, makes four of those to come.
__attribute__((target("+crypto"))) void compress_arm(std::uint32_t* state, const std::uint8_t* data,
                                                     std::size_t blocks) {
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; blocks; --blocks, data += 64) {
        const uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t words[4];
        for (int i = 0; i < 4; ++i) words[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
        for (int step = 0; step < 16; ++step) {
            uint32x4_t& oldest = words[step % 4];
            const uint32x4_t added = vaddq_u32(oldest, vld1q_u32(kSha256Constants.data() + 4 * step));
            if (step < 12) {
                const uint32x4_t second = words[(step + 1) % 4], third = words[(step + 2) % 4];
                oldest = vsha256su1q_u32(vsha256su0q_u32(oldest, second), third, words[(step + 3) % 4]);
            }
            const uint32x4_t before = abcd;
            abcd = vsha256hq_u32(abcd, efgh, added);
            efgh = vsha256h2q_u32(efgh, before, added);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

}  // namespace

Compress hardware_compress() noexcept { return getauxval(AT_HWCAP) & HWCAP_SHA2 ? compress_arm : nullptr; }

}  // namespace packnet::detail
#endif
