// The parts that everything stands on: SHA-256, texts, the 2:4 pattern, narrow floats, the loop over threads.

#include <atomic>
#include <cmath>
#include <limits>
#include <random>

#include "check.h"
#include "float16.h"
#include "parallel.h"
#include "pattern.h"
#include "sha256.h"
#include "text.h"

using namespace packnet::detail;

TEST(sha256_gives_the_published_hashes) {  // FIPS 180-4's examples, and the empty text
    CHECK_EQUAL(sha256("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_EQUAL(sha256("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const std::string text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    CHECK_EQUAL(sha256(text.data(), text.size()), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    const std::string million(1'000'000, 'a');
    CHECK_EQUAL(sha256(million.data(), million.size()),
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(sha256_is_the_same_in_pieces) {
    const std::string text(1000, 'x');
    for (std::size_t length = 0; length < 200; ++length) {
        for (std::size_t piece : {1, 7, 63, 64, 65, 130}) {
            Sha256 hash;
            for (std::size_t at = 0; at < length; at += piece) hash.update(&text[at], std::min(piece, length - at));
            CHECK_EQUAL(hash.hex(), sha256(text.data(), length));
        }
    }
}

TEST(sha256_by_the_processor_is_the_portable_one) {
    const Compress hardware = hardware_compress();
    if (!hardware) {
        std::printf("  skipped: this processor has no SHA instructions that we know\n");
        return;
    }
    std::mt19937 random(4);
    std::vector<std::uint8_t> data(64 * 9);
    for (std::size_t blocks = 0; blocks < 9; ++blocks) {
        for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(random());
        std::uint32_t portable[8] = {1, 2, 3, 4, 5, 6, 7, 0xffffffff}, fast[8] = {1, 2, 3, 4, 5, 6, 7, 0xffffffff};
        compress_portable(portable, data.data(), blocks);
        hardware(fast, data.data(), blocks);
        CHECK(std::equal(portable, portable + 8, fast));
    }
}

TEST(printable_texts) {
    for (const char* text :
         {"", "conv1.weight", "Mönchsgrasmücke", "日本", "\xc2\xa0", "\xe2\x80\xa7", "\xe2\x80\xaa"}) {
        CHECK(is_printable(text));
    }
    const char* refused[] = {"\x1f", "a\nb", "\x7f", "\xc2\x80", "x\xc2\x9f", "\xe2\x80\xa8", "x\xe2\x80\xa9y"};
    for (const char* text : refused) CHECK(!is_printable(text));
    CHECK(!is_printable(std::string(1, '\0')));
}

TEST(task_names) {
    for (const char* name : {"a", "0", "A.b_c-9", "x."}) CHECK(is_task_name(name));
    CHECK(is_task_name(std::string(64, 'x')));
    for (const char* name : {"", ".a", "-a", "_a", "a/b", "a b", "ä", "a\n"}) CHECK(!is_task_name(name));
    CHECK(!is_task_name(std::string(65, 'x')));
}

TEST(hostile_texts_in_messages_are_tamed) {
    CHECK_EQUAL(in_quotes("a'b\n\x1b[31m"), "'a\\x27b\\x0a\\x1b[31m'");
    CHECK_EQUAL(in_quotes(std::string(9999, 'x')), "'" + std::string(64, 'x') + "...'");
}

TEST(the_pattern_counts_along_the_inputs) {
    CHECK(fits_pattern({1, 4}) && fits_pattern({3, 8, 5, 5}));
    CHECK(!fits_pattern({4}) && !fits_pattern({4, 6}) && !fits_pattern({8, 1, 3, 3}));
    std::vector<std::uint8_t> linear = {0, 1, 2, 0, 3, 0, 0, 255};  // [1, 8]
    CHECK(obeys_pattern(linear.data(), {1, 8}));
    CHECK(obeys_pattern(linear.data(), {2, 4}));
    linear[3] = 9;
    CHECK(!obeys_pattern(linear.data(), {1, 8}));
    // [1, 4, 1, 2]: two kernel pixels, of which only the second has too many
    const std::vector<std::uint8_t> full = {1, 1, 1, 1, 0, 0, 0, 0}, second = {1, 1, 0, 1, 1, 0, 0, 1};
    CHECK(obeys_pattern(full.data(), {1, 4, 1, 2}));
    CHECK(!obeys_pattern(second.data(), {1, 4, 1, 2}));
}

TEST(every_item_is_worked_on_once) {
    for (unsigned threads : {0u, 1u, 2u, 5u}) {
        std::vector<std::atomic<int>> seen(1000);
        parallel_for(seen.size(), threads, [&](std::size_t i) { ++seen[i]; });
        for (const auto& count : seen) CHECK_EQUAL(count.load(), 1);
    }
    parallel_for(0, 4, [](std::size_t) { CHECK(false); });
}

TEST(an_exception_of_any_thread_arrives) {
    for (unsigned threads : {1u, 3u}) {
        check_refused("thrown", "at 700", [&] {
            parallel_for(1000, threads, [](std::size_t i) {
                if (i == 700) throw packnet::Error("file", "at 700");
            });
        });
    }
}

namespace {

/// Every finite value of a type of 16 bits comes back, and what lies between two neighbours goes to the nearer one, or
/// to the even one from the middle.
void check_rounding(float widen(std::uint16_t), std::uint16_t narrow(float), std::uint16_t largest) {
    for (std::uint16_t bits = 0; bits < largest; ++bits) {
        const float low = widen(bits), high = widen(static_cast<std::uint16_t>(bits + 1));
        const float middle = static_cast<float>((double{low} + double{high}) / 2);
        const auto even = static_cast<std::uint16_t>(bits + bits % 2), next = static_cast<std::uint16_t>(bits + 1);
        CHECK_EQUAL(narrow(low), bits);
        CHECK_EQUAL(narrow(middle), even);
        CHECK_EQUAL(narrow(std::nextafter(middle, low)), bits);
        CHECK_EQUAL(narrow(std::nextafter(middle, high)), next);
        CHECK_EQUAL(narrow(-low), bits | 0x8000);
    }
}

}  // namespace

TEST(float16_is_rounded_to_nearest_even) {
    check_rounding(float_of_half, half_of, 0x7bff);
    CHECK_EQUAL(half_of(65519.0f), 0x7bff);
    CHECK_EQUAL(half_of(65520.0f), 0x7c00);
    CHECK_EQUAL(half_of(std::numeric_limits<float>::infinity()), 0x7c00);
    CHECK_EQUAL(half_of(-1e-30f), 0x8000);
    CHECK(std::isnan(float_of_half(half_of(std::nanf("")))));
}

TEST(bfloat16_is_rounded_to_nearest_even) {
    check_rounding(float_of_bfloat16, bfloat16_of, 0x7f7f);
    CHECK_EQUAL(bfloat16_of(std::numeric_limits<float>::max()), 0x7f80);
    CHECK(std::isnan(float_of_bfloat16(bfloat16_of(std::nanf("")))));
    CHECK(std::isnan(float_of_bfloat16(bfloat16_of(float_of_bits(0x7f800001)))));  // its upper half alone is infinite
}
