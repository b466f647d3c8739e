// Pictures become pixels. That they are Python's, by the bit, tests/engines/test_preprocessing.py sees to.

#include <utility>

#include "check.h"
#include "packnet/preprocess.h"

namespace {

packnet::InputSpec spec_of(int channels, int height, int width, int resize) {
    return {channels, height, width, {}, {}, resize};
}

using Pixels = std::vector<std::uint8_t>;

}  // namespace

TEST(a_picture_of_the_right_size_is_taken_as_it_is) {
    const Pixels rgb = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};  // 2 x 2
    CHECK(
        (packnet::centre(spec_of(3, 2, 2, 2), {rgb.data(), 2, 2, 3}) == Pixels{1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12}));
}

TEST(the_middle_is_cut_out_and_what_is_missing_is_black) {
    const Pixels grey = {1, 2, 3, 4, 5, 6, 7, 8, 9};  // 3 x 3
    CHECK((packnet::centre(spec_of(1, 1, 1, 3), {grey.data(), 3, 3, 1}) == Pixels{5}));
    CHECK((packnet::centre(spec_of(1, 1, 5, 3), {grey.data(), 3, 3, 1}) == Pixels{0, 4, 5, 6, 0}));
}

TEST(grey_is_seen_as_three_channels_and_colours_as_grey) {
    const Pixels grey = {200}, red = {255, 0, 0};
    CHECK((packnet::centre(spec_of(3, 1, 1, 1), {grey.data(), 1, 1, 1}) == Pixels{200, 200, 200}));
    CHECK((packnet::centre(spec_of(1, 1, 1, 1), {red.data(), 1, 1, 3}) == Pixels{76}));
}

TEST(odd_differences_fall_on_even_pixels) {
    const Pixels line = {1, 2, 3, 4, 5, 6};
    for (const auto& [width, first] :
         {std::pair<int, int>{5, 1}, {3, 3}, {1, 3}}) {  // of 6: 0.5 to 0, 1.5 and 2.5 to 2
        CHECK_EQUAL(packnet::centre(spec_of(1, 1, width, 1), {line.data(), 6, 1, 1})[0], first);
    }
}

TEST(narrowing_is_antialiased) {
    Pixels stripes;  // 8 x 8, one bright column in four
    for (int i = 0; i < 64; ++i) stripes.push_back(i % 4 ? 0 : 255);
    for (std::uint8_t pixel : packnet::centre(spec_of(1, 2, 2, 2), {stripes.data(), 8, 8, 1})) {
        CHECK(pixel > 20);  // a filter that looks at the two pixels in the middle of four sees none
    }
}

TEST(a_very_long_picture_costs_no_more_than_its_cut) {
    const Pixels line(1 << 20, 7);
    CHECK((packnet::centre(spec_of(1, 2, 2, 1 << 14), {line.data(), 1 << 20, 1, 1}) == Pixels{7, 7, 7, 7}));
}

TEST(pictures_that_are_none_are_refused) {
    const Pixels pixels(16);
    const auto of = [&](int width, int height, int channels) {
        return [=, &pixels] { packnet::centre(spec_of(3, 2, 2, 2), {pixels.data(), width, height, channels}); };
    };
    check_refused("alpha", "expected 1 or 3 channels, got 4", of(2, 2, 4));
    check_refused("no width", "sides of 1..2^20 pixels, got 0", of(0, 2, 1));
    check_refused("too high", "sides of 1..2^20 pixels, got 1048577", of(1, (1 << 20) + 1, 1));
}
