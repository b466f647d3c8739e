// Pictures become pixels. That they are Python's, by the bit, tests/engines/test_preprocessing.py sees to.

#include <string>
#include <utility>

#include "check.h"
#include "packnet/preprocess.h"

namespace {

packnet::InputSpec spec_of(int channels, int height, int width, int resize) {
    return {channels, height, width, {}, {}, resize};
}

packnet::InputSpec framed(packnet::Framing framing, packnet::InputSpec spec, int fill = 0) {
    spec.framing = framing;
    spec.fill = fill;
    return spec;
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

TEST(a_picture_is_squashed_padded_or_cut) {
    const Pixels tall = {10, 10, 20, 20, 30, 30, 40, 40};  // 2 x 4
    const packnet::InputSpec spec = spec_of(1, 4, 4, 2);
    const packnet::Picture picture{tall.data(), 2, 4, 1};
    const auto framing = [&](packnet::Framing way) { return packnet::centre(framed(way, spec, 7), picture); };
    CHECK((framing(packnet::Framing::pad) == Pixels{7, 10, 10, 7, 7, 20, 20, 7, 7, 30, 30, 7, 7, 40, 40, 7}));
    CHECK((framing(packnet::Framing::whole) == Pixels{10, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 40, 40, 40, 40}));
    CHECK((framing(packnet::Framing::crop) == framing(packnet::Framing::pad)));  // as high as it is, and no wider
}

TEST(a_line_stays_a_pixel_wide_when_padded) {
    const Pixels line(1000, 200);
    const auto padded = framed(packnet::Framing::pad, spec_of(1, 3, 3, 3));
    CHECK((packnet::centre(padded, {line.data(), 1, 1000, 1}) == Pixels{0, 200, 0, 0, 200, 0, 0, 200, 0}));
}

TEST(a_picture_is_turned_where_the_description_says_so) {
    const Pixels grey = {1, 2, 3, 4, 5, 6};  // 3 x 2
    packnet::InputSpec spec = spec_of(1, 3, 2, 2);
    const packnet::Picture picture{grey.data(), 3, 2, 1, 6};  // by a quarter, clockwise
    CHECK((packnet::centre(spec, picture) == Pixels{4, 1, 5, 2, 6, 3}));
    spec.exif_orientation = false;
    std::swap(spec.height, spec.width);
    CHECK((packnet::centre(spec, picture) == grey));
}

TEST(files_that_say_nothing_are_upright) {
    const std::string start = "\xFF\xD8", mark = std::string("Exif\0\0", 6);
    const auto held = [](const std::string& file) { return packnet::exif_orientation(file.data(), file.size()); };
    for (const std::string& file :
         {std::string(), std::string("\xFF"), start, std::string("GIF89a"), start + std::string("\xFF\xE1\x00\x00", 4),
          start + "\xFF\xE1\xFF\xFF" + mark, start + std::string("\xFF\xE1\x00\x08", 4) + mark}) {
        CHECK_EQUAL(held(file), 1);
    }
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
    const auto held = [&](int orientation) {
        return [=, &pixels] { packnet::centre(spec_of(3, 2, 2, 2), {pixels.data(), 2, 2, 1, orientation}); };
    };
    check_refused("turned by nothing", "an orientation of 1..8, got 0", held(0));
    check_refused("turned otherwise", "an orientation of 1..8, got 9", held(9));
    check_refused("too high", "sides of 1..2^20 pixels, got 1048577", of(1, (1 << 20) + 1, 1));
}
