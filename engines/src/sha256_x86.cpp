// SHA-256 by x86's SHA extensions: Intel SHA Extensions, 319433-030, and what each instruction does there.

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "sha256.h"

namespace packnet::detail {
namespace {

// The state is held as ABEF and CDGH, most significant first, as sha256rnds2 wants it. `words` is a window of the
// last 16 message words, four to a register; each step does four rounds and, from the fifth on, makes four words.
__attribute__((target("sha,ssse3,sse4.1"))) void compress_x86(std::uint32_t* state, const std::uint8_t* data,
                                                              std::size_t blocks) {
    const auto load = [](const void* from) __attribute__((target("sse2"))) {
        return _mm_loadu_si128(static_cast<const __m128i*>(from));
    };
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);  // bytes of each word
    const __m128i cdab = _mm_shuffle_epi32(load(state), 0xb1), efgh = _mm_shuffle_epi32(load(state + 4), 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    for (; blocks; --blocks, data += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i words[4];
        for (int step = 0; step < 16; ++step) {
            __m128i& oldest = words[step % 4];
            if (step < 4) {
                oldest = _mm_shuffle_epi8(load(data + 16 * step), swap);
            } else {
                const __m128i second = words[(step + 1) % 4], third = words[(step + 2) % 4];
                const __m128i newest = words[(step + 3) % 4];
                const __m128i sum =
                    _mm_add_epi32(_mm_sha256msg1_epu32(oldest, second), _mm_alignr_epi8(newest, third, 4));
                oldest = _mm_sha256msg2_epu32(sum, newest);
            }
            const __m128i sum = _mm_add_epi32(oldest, load(kSha256Constants.data() + 4 * step));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace

Compress hardware_compress() noexcept {
    unsigned a, b, c, d;
    const bool sse = __get_cpuid(1, &a, &b, &c, &d) && c & bit_SSSE3 && c & bit_SSE4_1;
    const bool sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
    return sse && sha ? compress_x86 : nullptr;
}

}  // namespace packnet::detail
#endif
