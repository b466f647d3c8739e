// A pack.json with one thing wrong: one row per rejection.

#include "check.h"
#include "golden.h"
#include "json_text.h"
#include "manifest.h"

namespace {

packnet::Pack parse(const std::string& text) { return packnet::detail::parse_manifest("x.pack", ExactBytes(text)); }

const std::string& golden_text() {
    static const std::string text = read_file(golden_path() / "pack.json");
    return text;
}

struct Case {
    const char* name;
    const char* path;   // to the field that is changed
    std::string value;  // JSON; empty: the field is removed
    const char* words;
};

const std::string kRemoved;
const std::string kParameter(value_at(golden_text(), "packable/0").raw());
const std::string kTask(value_at(golden_text(), "tasks/0").raw());

const Case kCases[] = {
    {"another format", "format", R"("zip")", "format: expected 'packnet-pack', got 'zip'"},
    {"no format", "format", kRemoved, "format: expected a value, got nothing"},
    {"another version", "version", "2", "reads version 1: got 2"},
    {"a version that is no integer", "version", "1.0", "reads version 1: got 1.0"},
    {"a version that is true", "version", "true", "reads version 1: got true"},
    {"no backbone", "backbone", kRemoved, "backbone"},
    {"a backbone that is a text", "backbone", R"("vgg16")", "backbone: expected an object, got 'vgg16'"},
    {"an empty arch", "backbone/arch", R"("")", "backbone.arch"},
    {"a head of two lines", "backbone/head", R"("a\nb")", "backbone.head: expected a printable text, got 'a\\x0ab'"},
    {"a head with a line separator", "backbone/head", json_of("a\xe2\x80\xa8"), "backbone.head"},
    {"a head with a C1 control", "backbone/head", json_of("a\xc2\x85"), "backbone.head"},
    {"another graph file", "graph/file", R"("../graph.onnx")", "graph.file: expected 'graph.onnx'"},
    {"a graph hash in capitals", "graph/sha256", json_of(std::string(64, 'A')), "graph.sha256: expected 64 lower-case"},
    {"a graph hash that is too short", "graph/sha256", R"("ab")", "graph.sha256"},
    {"a shape of two sizes", "input/shape", "[3, 17]", "input.shape: expected 3 sizes"},
    {"two channels", "input/shape/0", "2", "input.shape[0]: expected 1 or 3 channels, got 2"},
    {"four channels", "input/shape/0", "4", "input.shape[0]"},
    {"no height", "input/shape/1", "0", "input.shape[1]: expected 1..16384, got 0"},
    {"a huge width", "input/shape/2", "16385", "input.shape[2]"},
    {"a width that is no integer", "input/shape/2", "19.0", "input.shape[2]"},
    {"too few means", "input/mean", "[0.5, 0.5]", "input.mean: expected 3 numbers"},
    {"a mean that is a text", "input/mean/0", R"("0.5")", "input.mean[0]: expected a float32 number"},
    {"a mean beyond float32", "input/mean/0", "1e39", "input.mean[0]"},
    {"a std of zero", "input/std/0", "0.0", "input.std[0]"},
    {"a std that float32 has only as a subnormal", "input/std/0", "1e-39", "input.std[0]"},
    {"a negative std", "input/std/0", "-0.25", "input.std[0]"},
    {"no resize", "input/resize", "0", "input.resize: expected 1..16384, got 0"},
    {"a resize that is true", "input/resize", "true", "input.resize"},
    {"a framing that is none", "input/framing", R"("zoom")",
     "input.framing: expected one of crop, whole, pad, got 'zoom'"},
    {"a framing that is true", "input/framing", "true", "input.framing: expected one of crop, whole, pad, got true"},
    {"a fill beyond white", "input/fill", "256", "input.fill: expected 0..255, got 256"},
    {"a fill that is no integer", "input/fill", "0.0", "input.fill: expected 0..255"},
    {"boxes that are a number", "input/boxes", "1", "input.boxes: expected true or false"},
    {"an orientation that is a text", "input/exif_orientation", R"("yes")", "input.exif_orientation: expected true"},
    {"other colours", "input/colours", R"("BGR")", "input.colours: expected 'RGB', got 'BGR'"},
    {"another scale", "input/scale", "1", "input.scale: expected 255..255, got 1"},
    {"another interpolation", "input/interpolation", R"("bicubic")", "input.interpolation: expected 'bilinear'"},
    {"another layout", "input/layout", R"("NHWC")", "input.layout: expected 'NCHW', got 'NHWC'"},
    {"parameters that are no list", "packable", "{}", "packable: expected a list, got an object"},
    {"a parameter twice", "packable/-", kParameter, "'conv1.weight' is listed twice"},
    {"a parameter without a name", "packable/0/name", R"("")", "packable[0].name"},
    {"a parameter with a control character", "packable/0/name", R"("a\nb")", "packable[0].name"},
    {"a parameter of float16", "packable/0/dtype", R"("float16")", "packable[0].dtype: expected 'float32'"},
    {"an unknown pattern", "packable/0/pattern", R"("1:4")",
     "packable[0].pattern: expected '2:4' or an empty text, got '1:4'"},
    {"a pattern that is no text", "packable/0/pattern", "2", "packable[0].pattern"},
    {"a pattern on inputs that are no multiple of 4", "packable/0/pattern", R"("2:4")",
     "packable[0].shape: expected [outputs, inputs"},
    {"a scalar parameter", "packable/0/shape", "[]", "packable[0].shape"},
    {"nine dimensions", "packable/0/shape", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "packable[0].shape"},
    {"an empty parameter", "packable/0/shape/0", "0", "packable[0].shape[0]"},
    {"a negative size", "packable/0/shape/0", "-5", "packable[0].shape[0]"},
    {"a size beyond 64 bits", "packable/0/shape/0", "1e30", "packable[0].shape[0]"},
    {"a shape that overflows", "packable/0/shape", "[1073741824, 1073741824, 1073741824]", "packable[0].shape"},
    {"too many weights in all", "packable/0/shape", "[1048576, 1048576]", "at most 2^40 weights in all"},
    {"tasks that are no list", "tasks", R"("none")", "tasks: expected a list"},
    {"a task twice", "tasks/1/name", R"("shapes")", "tasks[1].file"},
    {"a task that is a path", "tasks/0/name", R"("../x")", "tasks[0].name"},
    {"a task that begins with a dot", "tasks/0/name", R"(".x")", "tasks[0].name"},
    {"a task with a name of 65", "tasks/0/name", json_of(std::string(65, 'x')), "tasks[0].name"},
    {"another task index", "tasks/1/index", "3", "tasks[1].index: expected 2, got 3"},
    {"an index that is no integer", "tasks/0/index", "1.0", "tasks[0].index"},
    {"a file outside the pack", "tasks/0/file", R"("../evil")", "tasks[0].file: expected 'deltas/0001-shapes"},
    {"a task without a hash", "tasks/0/sha256", kRemoved, "tasks[0].sha256"},
    {"a task of minus one class", "tasks/0/classes", "-1", "tasks[0].classes"},
    {"a task of very many bytes", "tasks/0/bytes", "1099511627777", "tasks[0].bytes"},
};

}  // namespace

TEST(a_pack_json_with_one_thing_wrong_is_refused) {
    for (const Case& row : kCases) {
        check_refused(row.name, row.words, [&] { parse(changed(golden_text(), row.path, row.value)); });
    }
}

TEST(a_task_that_is_listed_twice_is_refused) {
    std::string text = changed(golden_text(), "tasks/1/name", json_of("shapes"));
    text = changed(text, "tasks/1/file", json_of("deltas/0002-shapes.safetensors"));
    check_refused("twice", "task 'shapes' is listed twice", [&] { parse(text); });
}

TEST(more_than_255_tasks_are_refused) {
    const std::string text = changed(golden_text(), "tasks", list_of(std::vector<std::string>(256, kTask)));
    check_refused("256 tasks", "tasks: expected at most 255, got more", [&] { parse(text); });
}

TEST(what_is_no_json_is_refused) {
    const std::string text = golden_text();
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
    check_refused("cut", "expected JSON", [&] { parse(text.substr(0, text.size() / 2)); });
    check_refused("more", "expected JSON", [&] { parse(text + "{}"); });
    check_refused("zero byte", "a zero byte", [&] { parse(text + '\0' + "anything"); });
    check_refused("byte order mark", "a byte order mark", [&] { parse("\xef\xbb\xbf" + text); });
    check_refused("NaN", "expected JSON", [&] { parse("{\"format\": NaN}"); });
    check_refused("bad UTF-8", "expected JSON", [&] { parse("{\"\xff\": 1}"); });
    check_refused("lone surrogate", "expected JSON", [&] { parse("{\"\\ud800\": 1}"); });
    check_refused("nested deeply", "at most 64 levels of nesting", [&] { parse("{\"x\": " + deep + "}"); });
    check_refused("a name twice", "'format' twice", [&] { parse("{\"format\": 1, \"format\": 2}"); });
    check_refused("too large", "at most 64 MiB", [&] { parse(std::string((std::size_t{1} << 26) + 1, ' ')); });
    check_refused("a list", "expected an object, got a list", [&] { parse("[]"); });
}

TEST(fields_that_a_reader_does_not_know_are_ignored) {
    std::string text = changed(golden_text(), "later", R"({"format": "other"})");
    text = changed(text, "tasks/0/later", "1");
    CHECK_EQUAL(parse(text).tasks.size(), std::size_t{3});
}

TEST(a_pattern_is_read) {
    std::string text = changed(golden_text(), "packable/1/pattern", json_of("2:4"));
    text = changed(text, "packable/1/shape", "[3, 8, 1, 1]");
    text = changed(text, "packable/2/pattern", json_of(""));
    const packnet::Pack pack = parse(text);
    CHECK_EQUAL(pack.parameters[1].pattern, "2:4");
    CHECK_EQUAL(pack.parameters[2].pattern, "");
}
