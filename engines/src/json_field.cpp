#include "json_field.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "limits.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr std::int64_t kMaxSide = 1 << 14;     // of an image, pixels
constexpr std::int64_t kMaxNumbers = 1 << 24;  // of an image

Framing parse_framing(const Field& field) {
    for (Framing framing : {Framing::crop, Framing::whole, Framing::pad}) {
        if (field.value == name_of(framing)) return framing;
    }
    field.refuse("one of crop, whole, pad");
}

std::string member(const Field& object, const char* key) { return object.name.empty() ? key : object.name + '.' + key; }

}  // namespace

void Field::refuse(const std::string& expected) const {
    throw Error(file, name.empty() ? "damaged" : name, expected, shown(value));
}

Field Field::at(const char* key) const {
    if (const auto found = find(key)) return *found;
    throw Error(file, member(*this, key), "a value", "nothing");
}

std::optional<Field> Field::find(const char* key) const {
    if (!value.is_object()) refuse("an object");
    const auto found = value.find(key);
    return found ? std::optional<Field>(Field{file, member(*this, key), *found}) : std::nullopt;
}

void Field::has_only(std::initializer_list<std::string_view> keys) const {
    if (!value.is_object()) refuse("an object");
    for (JsonWalk walk(value); walk.next();) {
        const auto is_it = [&](std::string_view key) { return walk.name() == key; };
        if (std::any_of(keys.begin(), keys.end(), is_it)) continue;
        throw Error(file, name.empty() ? "damaged" : name, "no other fields than it has", shown(walk.name()));
    }
}

std::vector<Field> Field::items(std::size_t most) const {
    std::vector<Field> result;
    for_each([&](Field item) {
        if (result.size() == most) throw Error(file, name, "at most " + std::to_string(most), "more");
        result.push_back(std::move(item));
    });
    return result;
}

std::string Field::text(bool allowed(std::string_view), const char* expected) const {
    if (!value.is_text()) refuse(expected);
    std::string text = value.text();
    if (!allowed(text)) refuse(expected);
    return text;
}

std::string Field::printable() const {
    return text([](std::string_view t) { return !t.empty() && is_printable(t); }, "a printable text");
}

std::vector<std::string> Field::printables() const {
    std::vector<std::string> texts;
    for_each([&](const Field& item) { texts.push_back(item.printable()); });
    return texts;
}

std::string Field::sha256() const { return text(is_sha256, "64 lower-case hex digits"); }

void Field::must_be(std::string_view expected) const {
    if (!(value == expected)) refuse(in_quotes(expected));
}

bool Field::truth() const {
    if (!value.is_truth()) refuse("true or false");
    return value.truth();
}

std::int64_t Field::integer(std::int64_t least, std::int64_t most) const {
    const auto number = value.integer();
    if (!number || *number < least || *number > most) refuse(std::to_string(least) + ".." + std::to_string(most));
    return *number;
}

std::int64_t Field::count() const { return integer(0, kMaxWeights); }

std::vector<std::int64_t> Field::shape() const {
    std::vector<std::int64_t> sizes;
    for (const Field& size : items(kMaxDimensions)) sizes.push_back(size.integer(1, kMaxWeights));
    if (sizes.empty() || !size_of(sizes)) refuse("1 to 8 sizes that a network can have");
    return sizes;
}

float Field::number(double least) const {
    constexpr double most = std::numeric_limits<float>::max();
    const double number = value.is_number() ? value.number() : std::nan("");
    if (!(number >= least && number <= most)) refuse("a float32 number from " + std::to_string(least));
    return static_cast<float>(number);
}

std::vector<float> Field::numbers(int channels, double least) const {
    std::vector<float> result;
    const auto count = static_cast<std::size_t>(channels);
    for (const Field& item : items(count)) result.push_back(item.number(least));
    if (result.size() != count) refuse(std::to_string(channels) + " numbers");
    return result;
}

InputSpec parse_input(const Field& input) {
    const std::vector<Field> shape = input.at("shape").items(3);
    if (shape.size() != 3) input.at("shape").refuse("3 sizes: channels, height, width");
    InputSpec spec;
    spec.channels = static_cast<int>(shape[0].integer(1, 3));
    if (spec.channels == 2) shape[0].refuse("1 or 3 channels");
    spec.height = static_cast<int>(shape[1].integer(1, kMaxSide));
    spec.width = static_cast<int>(shape[2].integer(1, kMaxSide));
    if (std::int64_t{spec.channels} * spec.height * spec.width > kMaxNumbers) {
        input.at("shape").refuse("at most " + std::to_string(kMaxNumbers) + " numbers in all");
    }
    spec.mean = input.at("mean").numbers(spec.channels, -std::numeric_limits<float>::max());
    spec.stddev = input.at("std").numbers(spec.channels, std::numeric_limits<float>::min());
    spec.resize = static_cast<int>(input.at("resize").integer(1, kMaxSide));
    input.at("layout").must_be("NCHW");
    if (const auto framing = input.find("framing")) spec.framing = parse_framing(*framing);
    if (const auto fill = input.find("fill")) spec.fill = static_cast<int>(fill->integer(0, 255));
    if (const auto boxes = input.find("boxes")) spec.boxes = boxes->truth();
    const auto orientation = input.find("exif_orientation");
    spec.exif_orientation = orientation && orientation->truth();
    if (const auto colours = input.find("colours")) colours->must_be(spec.channels == 3 ? "RGB" : "L");
    if (const auto scale = input.find("scale")) scale->integer(255, 255);
    if (const auto interpolation = input.find("interpolation")) interpolation->must_be("bilinear");
    return spec;
}

}  // namespace packnet::detail
