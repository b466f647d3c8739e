#include "manifest.h"

#include <cmath>
#include <limits>
#include <set>

#include "json.h"
#include "limits.h"
#include "pattern.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr int kVersion = 1;
constexpr const char* kGraphFile = "graph.onnx";
constexpr std::int64_t kMaxSide = 1 << 14;  // of an image, pixels

/// A value of the document with the way to it, for messages: `tasks[2].name`.
struct Field {
    const std::string& file;
    std::string name;
    const Json& value;

    [[noreturn]] void refuse(const std::string& expected) const {
        throw Error(file, name.empty() ? "damaged" : name, expected, shown(value));
    }

    Field at(const char* key) const {
        if (!value.is_object()) refuse("an object");
        const auto found = value.find(key);
        const std::string path = name.empty() ? key : name + '.' + key;
        if (found == value.end()) throw Error(file, path, "a value", "nothing");
        return {file, path, *found};
    }

    std::vector<Field> items() const {
        if (!value.is_array()) refuse("a list");
        std::vector<Field> result;
        for (const Json& item : value) result.push_back({file, name + '[' + std::to_string(result.size()) + ']', item});
        return result;
    }

    std::string text(bool allowed(std::string_view), const char* expected) const {
        if (!value.is_string() || !allowed(value.get_ref<const std::string&>())) refuse(expected);
        return value.get<std::string>();
    }

    std::string printable() const {
        return text([](std::string_view t) { return !t.empty() && is_printable(t); }, "a printable text");
    }

    std::string sha256() const { return text(is_sha256, "64 lower-case hex digits"); }

    void must_be(const std::string& expected) const {
        if (value != expected) refuse(in_quotes(expected));
    }

    std::int64_t integer(std::int64_t least, std::int64_t most) const {
        const bool in_range = value.is_number_unsigned()
                                  ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most)
                                  : value.is_number_integer() && value.get<std::int64_t>() <= most;
        if (!in_range || value.get<std::int64_t>() < least) {
            refuse(std::to_string(least) + ".." + std::to_string(most));
        }
        return value.get<std::int64_t>();
    }

    std::int64_t count() const { return integer(0, kMaxWeights); }

    /// A float32 of magnitude `least` or more.
    float number(double least) const {
        constexpr double most = std::numeric_limits<float>::max();
        const double number = value.is_number() ? value.get<double>() : std::nan("");
        if (!(number >= least && number <= most)) refuse("a float32 number from " + std::to_string(least));
        return static_cast<float>(number);
    }

    std::vector<float> numbers(int channels, double least) const {
        std::vector<float> result;
        for (const Field& item : items()) result.push_back(item.number(least));
        if (result.size() != static_cast<std::size_t>(channels)) refuse(std::to_string(channels) + " numbers");
        return result;
    }
};

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
    return spec;
}

Parameter parse_parameter(const Field& item) {
    Parameter parameter{item.at("name").printable(), {}, {}, 0};
    for (const Field& size : item.at("shape").items()) parameter.shape.push_back(size.integer(1, kMaxWeights));
    const auto size = size_of(parameter.shape);
    if (parameter.shape.empty() || !size) item.at("shape").refuse("1 to 8 sizes that a network can have");
    parameter.size = *size;
    item.at("dtype").must_be("float32");
    if (item.value.contains("pattern")) {
        const auto known = [](std::string_view text) { return text.empty() || text == kPattern; };
        parameter.pattern = item.at("pattern").text(known, "'2:4' or an empty text");
        if (!parameter.pattern.empty() && !fits_pattern(parameter.shape)) {
            item.at("shape").refuse("[outputs, inputs, ...] with inputs a multiple of 4, as the pattern 2:4 needs");
        }
    }
    return parameter;
}

TaskEntry parse_task(const Field& item, int index) {
    TaskEntry task{
        item.at("name").text(is_task_name, "1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"), index,
        item.at("classes").count(), item.at("sha256").sha256(), item.at("bytes").count()};
    if (item.at("index").count() != index) item.at("index").refuse(std::to_string(index));
    item.at("file").must_be(task.file());
    return task;
}

template <typename T>
void check_unique(const std::string& file, const char* what, const std::vector<T>& items) {
    std::set<std::string_view> names;
    for (const T& item : items) {
        if (!names.insert(item.name).second)
            throw Error(file, std::string(what) + ' ' + in_quotes(item.name) + " is listed twice");
    }
}

}  // namespace

Pack parse_manifest(const std::filesystem::path& path, Bytes file) {
    const std::string name = (path / "pack.json").string();
    if (file.size > kMaxManifestBytes)
        throw Error(name, "size", "at most 64 MiB", std::to_string(file.size) + " bytes");
    const Json json = parse_json(file.text(), name, "damaged");
    const Field document{name, "", json};
    document.at("format").must_be("packnet-pack");
    const Field version = document.at("version");
    if (!version.value.is_number_integer() || version.value != kVersion) {
        throw Error(name, "pack version: this library reads version 1", {}, shown(version.value),
                    "use the release that wrote it, or a newer one");
    }
    const Field backbone = document.at("backbone"), graph = document.at("graph");
    backbone.at("arch").printable();
    backbone.at("head").printable();
    graph.at("file").must_be(kGraphFile);

    Pack pack{path, parse_input(document.at("input")), graph.at("sha256").sha256(), {}, {}};
    std::size_t weights = 0;
    for (const Field& item : document.at("packable").items()) {
        pack.parameters.push_back(parse_parameter(item));
        weights += pack.parameters.back().size;
        if (weights > kMaxWeights) throw Error(name, "packable", "at most 2^40 weights in all", "more");
    }
    check_unique(name, "packable parameter", pack.parameters);
    const std::vector<Field> tasks = document.at("tasks").items();
    if (tasks.size() > kMaxTasks) throw Error(name, "tasks", "at most 255", std::to_string(tasks.size()));
    for (const Field& item : tasks) pack.tasks.push_back(parse_task(item, static_cast<int>(pack.tasks.size()) + 1));
    check_unique(name, "task", pack.tasks);
    return pack;
}

}  // namespace packnet::detail
