#include "field.h"

#include <cmath>
#include <limits>

#include "limits.h"
#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr std::int64_t kMaxSide = 1 << 14;  // of an image, pixels

Framing parse_framing(const Field& field) {
    for (Framing framing : {Framing::crop, Framing::whole, Framing::pad}) {
        if (field.value == name_of(framing)) return framing;
    }
    field.refuse("one of crop, whole, pad");
}

}  // namespace

void Field::refuse(const std::string& expected) const {
    throw Error(file, name.empty() ? "damaged" : name, expected, shown(value));
}

Field Field::at(const char* key) const {
    if (!value.is_object()) refuse("an object");
    const auto found = value.find(key);
    const std::string path = name.empty() ? key : name + '.' + key;
    if (found == value.end()) throw Error(file, path, "a value", "nothing");
    return {file, path, *found};
}

std::vector<Field> Field::items() const {
    if (!value.is_array()) refuse("a list");
    std::vector<Field> result;
    for (const Json& item : value) result.push_back({file, name + '[' + std::to_string(result.size()) + ']', item});
    return result;
}

std::string Field::text(bool allowed(std::string_view), const char* expected) const {
    if (!value.is_string() || !allowed(value.get_ref<const std::string&>())) refuse(expected);
    return value.get<std::string>();
}

std::string Field::printable() const {
    return text([](std::string_view t) { return !t.empty() && is_printable(t); }, "a printable text");
}

std::string Field::sha256() const { return text(is_sha256, "64 lower-case hex digits"); }

void Field::must_be(const std::string& expected) const {
    if (value != expected) refuse(in_quotes(expected));
}

bool Field::truth() const {
    if (!value.is_boolean()) refuse("true or false");
    return value.get<bool>();
}

std::int64_t Field::integer(std::int64_t least, std::int64_t most) const {
    const bool in_range = value.is_number_unsigned() ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most)
                                                     : value.is_number_integer() && value.get<std::int64_t>() <= most;
    if (!in_range || value.get<std::int64_t>() < least) refuse(std::to_string(least) + ".." + std::to_string(most));
    return value.get<std::int64_t>();
}

std::int64_t Field::count() const { return integer(0, kMaxWeights); }

float Field::number(double least) const {
    constexpr double most = std::numeric_limits<float>::max();
    const double number = value.is_number() ? value.get<double>() : std::nan("");
    if (!(number >= least && number <= most)) refuse("a float32 number from " + std::to_string(least));
    return static_cast<float>(number);
}

std::vector<float> Field::numbers(int channels, double least) const {
    std::vector<float> result;
    for (const Field& item : items()) result.push_back(item.number(least));
    if (result.size() != static_cast<std::size_t>(channels)) refuse(std::to_string(channels) + " numbers");
    return result;
}

InputSpec parse_input(const Field& input) {
    const std::vector<Field> shape = input.at("shape").items();
    if (shape.size() != 3) input.at("shape").refuse("3 sizes: channels, height, width");
    InputSpec spec;
    spec.channels = static_cast<int>(shape[0].integer(1, 3));
    if (spec.channels == 2) shape[0].refuse("1 or 3 channels");
    spec.height = static_cast<int>(shape[1].integer(1, kMaxSide));
    spec.width = static_cast<int>(shape[2].integer(1, kMaxSide));
    spec.mean = input.at("mean").numbers(spec.channels, -std::numeric_limits<float>::max());
    spec.stddev = input.at("std").numbers(spec.channels, std::numeric_limits<float>::min());
    spec.resize = static_cast<int>(input.at("resize").integer(1, kMaxSide));
    input.at("layout").must_be("NCHW");
    const auto says = [&](const char* key) { return input.value.contains(key); };
    if (says("framing")) spec.framing = parse_framing(input.at("framing"));
    if (says("fill")) spec.fill = static_cast<int>(input.at("fill").integer(0, 255));
    if (says("boxes")) spec.boxes = input.at("boxes").truth();
    spec.exif_orientation = says("exif_orientation") && input.at("exif_orientation").truth();
    if (says("colours")) input.at("colours").must_be(spec.channels == 3 ? "RGB" : "L");
    if (says("scale")) input.at("scale").integer(255, 255);
    if (says("interpolation")) input.at("interpolation").must_be("bilinear");
    return spec;
}

}  // namespace packnet::detail
