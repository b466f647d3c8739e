#include "manifest.h"

#include <set>

#include "json.h"
#include "json_field.h"
#include "limits.h"
#include "pattern.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr int kVersion = 1;
constexpr const char* kGraphFile = "graph.onnx";

Parameter parse_parameter(const Field& item) {
    Parameter parameter{item.at("name").printable(), item.at("shape").shape(), {}, 0};
    parameter.size = *size_of(parameter.shape);
    item.at("dtype").must_be("float32");
    if (const auto pattern = item.find("pattern")) {
        const auto known = [](std::string_view text) { return text.empty() || text == kPattern; };
        parameter.pattern = pattern->text(known, "'2:4' or an empty text");
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
    if (version.value.integer() != kVersion) {
        throw Error(name, "pack version: this library reads version 1", {}, shown(version.value),
                    "use the release that wrote it, or a newer one");
    }
    const Field backbone = document.at("backbone"), graph = document.at("graph");
    backbone.at("arch").printable();
    backbone.at("head").printable();
    graph.at("file").must_be(kGraphFile);

    Pack pack{path, parse_input(document.at("input")), graph.at("sha256").sha256(), {}, {}};
    std::size_t weights = 0;
    document.at("packable").for_each([&](const Field& item) {
        pack.parameters.push_back(parse_parameter(item));
        weights += pack.parameters.back().size;
        if (weights > kMaxWeights) throw Error(name, "packable", "at most 2^40 weights in all", "more");
    });
    check_unique(name, "packable parameter", pack.parameters);
    for (const Field& item : document.at("tasks").items(kMaxTasks)) {
        pack.tasks.push_back(parse_task(item, static_cast<int>(pack.tasks.size()) + 1));
    }
    check_unique(name, "task", pack.tasks);
    return pack;
}

}  // namespace packnet::detail
