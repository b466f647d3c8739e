#include "delta_file.h"

#include <set>

#include "json.h"
#include "json_field.h"
#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr const char* kOtherBackbone = "was this delta made for another backbone?";

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

const std::string& field(const TensorFile& file, const char* key) {
    const auto found = file.metadata.find(key);
    if (found == file.metadata.end()) throw Error(file.path, "damaged, metadata", key, "nothing");
    return found->second;
}

const std::string& sha256_field(const TensorFile& file, const char* key) {
    const std::string& value = field(file, key);
    if (!is_sha256(value)) throw Error(file.path, key, "64 lower-case hex digits", in_quotes(value));
    return value;
}

int parse_index(const TensorFile& file) {
    const std::string& text = field(file, "index");
    for (int index = 1; index <= kMaxTasks; ++index) {
        if (text == std::to_string(index)) return index;
    }
    throw Error(file.path, "index", "1..255 in decimal", in_quotes(text));
}

std::vector<std::string> parse_classes(const TensorFile& file) {
    const Json list = parse_json(field(file, "classes"), file.path, "damaged, metadata classes");
    if (!list.is_array()) throw Error(file.path, "classes", "a list of names", shown(list));
    std::vector<std::string> names;
    for (JsonWalk walk(list); walk.next();) {
        if (!walk.value().is_text() || !is_printable(names.emplace_back(walk.value().text()))) {
            throw Error(file.path, "class names", "printable texts", shown(walk.value()));
        }
    }
    if (names.empty()) throw Error(file.path, "classes", "a list of names", "none");
    return names;
}

std::string parse_report(const TensorFile& file) {
    const auto found = file.metadata.find("report");
    const std::string text = found == file.metadata.end() ? "{}" : found->second;
    const Json report = parse_json(text, file.path, "damaged, metadata report");
    if (!report.is_object()) throw Error(file.path, "report", "an object", shown(report));
    return text;
}

std::optional<InputSpec> parse_own_input(const TensorFile& file) {
    const auto found = file.metadata.find("input");
    if (found == file.metadata.end()) return std::nullopt;
    const Json json = parse_json(found->second, file.path, "damaged, metadata input");
    return parse_input({file.path, "input", json});
}

void check_own_input(const TensorFile& file, const InputSpec& own, const InputSpec& packs) {
    const auto shape = [](const InputSpec& spec) { return listed({spec.channels, spec.height, spec.width}); };
    if (shape(own) != shape(packs)) {
        throw Error(file.path, "input.shape", shape(packs) + ", the network's", shape(own),
                    "use a delta made from this very pack");
    }
    if (own.sha256() == packs.sha256()) throw Error(file.path, "input: it is the pack's, so it must be left out");
}

std::string expected_and_got(const std::string& text) { return text.empty() ? "none" : in_quotes(text); }

const TensorEntry& required(const TensorFile& file, const std::string& name) {
    if (const TensorEntry* entry = file.find(name)) return *entry;
    throw Error(file.path, "tensor " + in_quotes(name) + " is missing", {}, {}, kOtherBackbone);
}

void check_tensor(const TensorFile& file, const std::string& name, const std::vector<std::int64_t>& shape) {
    const TensorEntry& entry = required(file, name);
    if (entry.dtype != Dtype::f32 || entry.shape != shape) {
        throw Error(file.path, in_quotes(name), "float32 " + listed(shape),
                    std::string(name_of(entry.dtype)) + ' ' + listed(entry.shape));
    }
}

void check_names(const TensorFile& file, const std::vector<Parameter>& parameters) {
    std::set<std::string, std::less<>> packable, known = {"probe/logits", "head/weight", "head/bias"};
    for (const Parameter& parameter : parameters) {
        packable.insert(parameter.name);
        known.insert({"mask/" + parameter.name, "values/" + parameter.name});
    }
    for (const auto& [name, entry] : file.entries) {
        const std::size_t slash = name.find('/');
        const std::string_view group = std::string_view(name).substr(0, slash);
        const std::string_view rest = slash == std::string::npos ? "" : std::string_view(name).substr(slash + 1);
        const bool extra = (group == "shared" || group == "own") && !rest.empty() && packable.count(rest) == 0;
        if (!extra && known.count(name) == 0) {
            throw Error(file.path, "unknown tensor " + in_quotes(name), {}, {}, kOtherBackbone);
        }
    }
}

}  // namespace

DeltaHeader parse_header(const TensorFile& file) {
    const auto said = [&](const char* key) {
        const auto found = file.metadata.find(key);
        return found == file.metadata.end() ? "nothing" : in_quotes(found->second);
    };
    if (said("format") != "'packnet-delta'") {
        throw Error(file.path, "not a task delta: format", "'packnet-delta'", said("format"));
    }
    if (said("version") != "'1'") {
        throw Error(file.path, "delta version: this library reads version 1", {}, said("version"));
    }
    DeltaHeader header{field(file, "task"),
                       parse_index(file),
                       parse_classes(file),
                       field(file, "parent"),
                       sha256_field(file, "graph_sha256"),
                       sha256_field(file, "input_sha256"),
                       sha256_field(file, "frozen_sha256"),
                       parse_report(file),
                       parse_own_input(file)};
    if (!is_task_name(header.task))
        throw Error(file.path, "task name", "letters, digits, '.', '_', '-'", in_quotes(header.task));
    if (!header.parent.empty()) sha256_field(file, "parent");
    return header;
}

void check_place(const TensorFile& file, const DeltaHeader& header, const Pack& pack, std::size_t position) {
    const TaskEntry& entry = pack.tasks[position];
    const struct {
        const char* what;
        std::string expected, got;
    } checks[] = {
        {"graph_sha256 (the backbone)", pack.graph_sha256, header.graph_sha256},
        {"input_sha256 (image size and normalisation)", pack.input.sha256(), header.input_sha256},
        {"task index", std::to_string(position + 1), std::to_string(header.index)},
        {"parent", position ? pack.tasks[position - 1].sha256 : "", header.parent},
        {"task", entry.name, header.task},
        {"number of classes", std::to_string(entry.classes), std::to_string(header.classes.size())},
    };
    for (const auto& check : checks) {
        if (check.expected != check.got) {
            throw Error(file.path, check.what, expected_and_got(check.expected), expected_and_got(check.got),
                        "use a delta made from this very pack");
        }
    }
    if (header.input) check_own_input(file, *header.input, pack.input);
}

void check_tensors(const TensorFile& file, const DeltaHeader& header, const std::vector<Parameter>& parameters,
                   const TensorFile& first) {
    check_names(file, parameters);
    const auto classes = static_cast<std::int64_t>(header.classes.size());
    check_tensor(file, "probe/logits", {kProbeImages, classes});
    std::vector<std::int64_t> head = required(first, "head/weight").shape;
    if (head.empty()) throw Error(first.path, "'head/weight'", "[classes, ...]", "[]");
    head[0] = classes;
    check_tensor(file, "head/weight", head);
    if (first.find("head/bias") || file.find("head/bias")) {
        required(first, "head/bias");
        check_tensor(file, "head/bias", {classes});
    }
    for (const auto& [name, entry] : file.entries) {
        if (starts_with(name, "shared/")) {
            if (header.index > 1) {
                throw Error(file.path, "only task 1 may hold shared/ tensors", {},
                            in_quotes(name) + " in task " + std::to_string(header.index));
            }
            check_tensor(file, name, entry.shape);
        } else if (starts_with(name, "own/")) {
            const TensorEntry* shared = first.find("shared/" + name.substr(4));
            if (!shared)
                throw Error(file.path, in_quotes(name) + ": the pack has no shared/ tensor that it could replace");
            check_tensor(file, name, shared->shape);
        }
    }
}

}  // namespace packnet::detail
