// A delta with one thing wrong: one row per rejection. All are forgeries of the golden pack's third.

#include "check.h"
#include "golden.h"
#include "json_text.h"

namespace {

using Change = std::function<void(Forgery&)>;

struct Case {
    const char* name;
    Change change;
    std::string words;
};

Change metadata(const char* key, const std::string& value) {
    return [=](Forgery& delta) { delta.metadata[key] = value; };
}

/// One field of the task's own input description changed.
Change own_input(const char* key, const std::string& value) {
    return [=](Forgery& delta) { delta.metadata["input"] = changed(delta.metadata["input"], key, value); };
}

std::string packs_input() {
    const std::string text = read_file(golden_path() / "pack.json");
    return std::string(value_at(text, "input").raw());
}

/// Metadata that is no object of texts.
Change odd_metadata(const char* json) {
    return [=](Forgery& delta) { delta.odd_metadata = json; };
}

Change no_metadata(const char* key) {
    return [=](Forgery& delta) { delta.metadata.erase(key); };
}

Change tensor(const char* name, const char* dtype, std::vector<std::int64_t> shape, std::size_t bytes) {
    return [=](Forgery& delta) { delta.tensors[name] = {dtype, shape, std::string(bytes, '\0')}; };
}

Change without(const char* name) {
    return [=](Forgery& delta) { delta.tensors.erase(name); };
}

// 71 weights of conv1 are still free; the task takes 16 of them.
constexpr const char* kMask = "mask/conv1.weight";
constexpr const char* kValues = "values/conv1.weight";

Change flip(std::size_t byte, int bit) {
    return [=](Forgery& delta) { delta.tensors[kMask].data[byte] ^= static_cast<char>(1 << bit); };
}

void take_everything(Forgery& delta) {
    delta.tensors[kMask].data = std::string(8, '\xff') + '\x7f';
    delta.tensors[kValues] = {"F32", {71}, std::string(71 * 4, '\0')};
}

const std::string kZeros(64, '0'), kDeep = std::string(100'000, '[');

const Case kMetadata[] = {
    {"no metadata", odd_metadata("{}"), "not a task delta"},
    {"another format", metadata("format", "packnet-pack"), "expected 'packnet-delta', got 'packnet-pack'"},
    {"another version", metadata("version", "2"), "reads version 1: got '2'"},
    {"no version", no_metadata("version"), "got nothing"},
    {"another backbone", metadata("graph_sha256", kZeros), "graph_sha256 (the backbone): expected"},
    {"an own input that is no JSON", metadata("input", "{"), "damaged, metadata input"},
    {"an own input that is no object", metadata("input", "[]"), "input: expected an object"},
    {"an own input of another shape", own_input("shape", "[3, 17, 20]"),
     "input.shape: expected [3, 17, 19], the network's, got [3, 17, 20]"},
    {"an own input that nobody could follow", own_input("framing", R"("zoom")"), "input.framing: expected one of crop"},
    {"an own input that is the pack's", [](Forgery& delta) { delta.metadata["input"] = packs_input(); },
     "input: it is the pack's, so it must be left out"},
    {"another input", metadata("input_sha256", kZeros), "input_sha256 (image size and normalisation): expected"},
    {"another parent", metadata("parent", kZeros), "parent: expected"},
    {"no parent", no_metadata("parent"), "parent"},
    {"an empty parent", metadata("parent", ""), "parent: expected"},
    {"a parent that is no hash", metadata("parent", "a\nb"),
     "parent: expected 64 lower-case hex digits, got 'a\\x0ab'"},
    {"a frozen hash that is none", metadata("frozen_sha256", "?"), "frozen_sha256: expected 64"},
    {"a graph hash that is none", metadata("graph_sha256", "?"), "graph_sha256: expected 64"},
    {"an earlier index", metadata("index", "2"), "task index: expected '3', got '2'"},
    {"index 0", metadata("index", "0"), "index: expected 1..255 in decimal, got '0'"},
    {"index 256", metadata("index", "256"), "index: expected 1..255"},
    {"an index with a zero", metadata("index", "03"), "index: expected 1..255"},
    {"an index of many digits", metadata("index", std::string(9999, '3')), "index: expected 1..255"},
    {"another task name", metadata("task", "fish"), "task: expected 'flowers', got 'fish'"},
    {"a task name that is a path", metadata("task", "../evil"), "task name"},
    {"no task name", no_metadata("task"), "task"},
    {"classes that are no JSON", metadata("classes", "["), "metadata classes: expected JSON"},
    {"classes nested deeply", metadata("classes", kDeep), "at most 64 levels"},
    {"classes that are no list", metadata("classes", "{}"), "classes: expected a list"},
    {"no classes at all", metadata("classes", "[]"), "classes: expected a list of names"},
    {"classes that are numbers", metadata("classes", "[1, 2, 3, 4, 5]"),
     "class names: expected printable texts, got 1"},
    {"a class of two lines", metadata("classes", R"(["a\nb", "", "", "", ""])"), "class names"},
    {"too few classes", metadata("classes", R"(["a", "b"])"), "number of classes: expected '5', got '2'"},
    {"a report that is no object", metadata("report", "[]"), "report: expected an object"},
    {"a report that is no JSON", metadata("report", "{"), "metadata report: expected JSON"},
    {"a report with a lone surrogate", metadata("report", R"({"note": "\ud800"})"), "metadata report: expected JSON"},
    {"a value that is no text", odd_metadata(R"({"extra": 1})"), "__metadata__: 'extra'"},
    {"metadata that is a list", odd_metadata("[]"), "__metadata__: expected an object"},
};

const Case kTensors[] = {
    {"a padding bit", flip(8, 7), "'mask/conv1.weight': padding bits are not zero"},
    {"a flipped bit", flip(0, 0), "'mask/conv1.weight' marks"},
    {"a mask of zeros", tensor(kMask, "U8", {9}, 9), "marks 0 weights, but there are 16 values"},
    {"a mask of ones", take_everything, "marks every free weight, so it must be left out"},
    {"no mask", without(kMask), "no mask: expected all 71 free weights, got 16"},
    {"a short mask", tensor(kMask, "U8", {8}, 8), "expected uint8 [9] for 71 free weights, got uint8 [8]"},
    {"a long mask", tensor(kMask, "U8", {10}, 10), "got uint8 [10]"},
    {"a mask of float16", tensor(kMask, "F16", {9}, 18), "got float16 [9]"},
    {"a mask of two dimensions", tensor(kMask, "U8", {9, 1}, 9), "got uint8 [9, 1]"},
    {"a mask where nothing is free", tensor("mask/fire.squeeze.weight", "U8", {0}, 0), "must be left out"},
    {"no values", without(kValues), "'values/conv1.weight' is missing"},
    {"a value less", tensor(kValues, "F32", {15}, 60), "marks 16 weights, but there are 15 values"},
    {"a value more", tensor(kValues, "F32", {17}, 68), "marks 16 weights, but there are 17 values"},
    {"values of uint8", tensor(kValues, "U8", {16}, 16), "expected 1-D float32, float16 or bfloat16, got uint8"},
    {"values of two dimensions", tensor(kValues, "F32", {4, 4}, 64), "got float32 [4, 4]"},
    {"values where nothing is free", tensor("values/fire.squeeze.weight", "F32", {1}, 4), "all 0 free weights, got 1"},
    {"an unknown tensor", tensor("extra", "F32", {1}, 4), "unknown tensor 'extra'"},
    {"an unknown parameter", tensor("values/conv9.weight", "F32", {0}, 0), "unknown tensor 'values/conv9.weight'"},
    {"an unknown head tensor", tensor("head/gamma", "F32", {1}, 4), "unknown tensor 'head/gamma'"},
    {"a nameless tensor", tensor("own/", "F32", {1}, 4), "unknown tensor 'own/'"},
    {"a name with a control character", tensor("own/a\x01", "F32", {1}, 4), "its name has control characters"},
    {"shared/ in a later task", tensor("shared/norm.bias", "F32", {5}, 20), "only task 1 may hold shared/"},
    {"own/ of a packable", tensor("own/conv1.weight", "F32", {1}, 4), "unknown tensor"},
    {"own/ of nothing shared", tensor("own/conv1.bias", "F32", {5}, 20), "no shared/ tensor that it could replace"},
    {"own/ of another shape", tensor("own/norm.bias", "F32", {4}, 16), "expected float32 [5], got float32 [4]"},
    {"own/ of float16", tensor("own/norm.bias", "F16", {5}, 10), "expected float32 [5], got float16 [5]"},
    {"no head", without("head/weight"), "'head/weight' is missing"},
    {"no head bias", without("head/bias"), "'head/bias' is missing"},
    {"a head of other classes", tensor("head/weight", "F32", {4, 7, 1, 1}, 112), "expected float32 [5, 7, 1, 1]"},
    {"a head of other features", tensor("head/weight", "F32", {5, 6, 1, 1}, 120), "expected float32 [5, 7, 1, 1]"},
    {"a head of float16", tensor("head/weight", "F16", {5, 7, 1, 1}, 70), "got float16"},
    {"a head bias of other classes", tensor("head/bias", "F32", {4}, 16), "expected float32 [5]"},
    {"no probe logits", without("probe/logits"), "'probe/logits' is missing"},
    {"probe logits of other classes", tensor("probe/logits", "F32", {4, 4}, 64), "expected float32 [4, 5]"},
    {"probe logits of other images", tensor("probe/logits", "F32", {3, 5}, 60), "expected float32 [4, 5]"},
    {"a dtype that no delta has", tensor("own/norm.bias", "F64", {5}, 40),
     "dtype: expected F32, F16, BF16 or U8, got 'F64'"},
    {"a shape that its bytes do not fill", tensor("own/norm.bias", "F32", {5}, 16), "its offsets do not fit its shape"},
    {"nine dimensions", tensor("own/norm.bias", "F32", {1, 1, 1, 1, 1, 1, 1, 1, 1}, 4),
     "shape: expected at most 8, got"},
    {"an empty tensor of absurd size", tensor("own/norm.bias", "F32", {0, 1 << 30, 1 << 30}, 0), "no network has"},
    {"a negative size", tensor("own/norm.bias", "F32", {-1}, 0), "shape: expected sizes, got -1"},
};

void check_rejections(const Case* begin, const Case* end) {
    for (const Case* row = begin; row != end; ++row) {
        Forgery delta(golden_deltas()[2]);
        row->change(delta);
        check_refused(row->name, row->words, [&] { check_with(2, delta.bytes()); });
    }
}

std::string with_header(const std::string& text, const std::string& body = "") {
    std::string length;
    for (std::size_t i = 0; i < 8; ++i) length += static_cast<char>(text.size() >> 8 * i & 255);
    return length + text + body;
}

}  // namespace

TEST(the_forger_makes_deltas_that_pass) {
    for (std::size_t i = 0; i < 3; ++i) check_with(i, Forgery(golden_deltas()[i]).bytes());
}

TEST(forged_metadata_is_refused) { check_rejections(std::begin(kMetadata), std::end(kMetadata)); }

TEST(forged_tensors_are_refused) { check_rejections(std::begin(kTensors), std::end(kTensors)); }

TEST(a_first_delta_with_a_head_that_is_one_number_is_refused) {
    Forgery delta(golden_deltas()[0]);
    delta.tensors["head/weight"] = {"F32", {}, std::string(4, '\0')};
    check_refused("scalar head", "'head/weight': expected [classes, ...], got []",
                  [&] { check_with(0, delta.bytes()); });
}

TEST(a_file_that_ends_anywhere_is_refused) {
    const std::string& whole = golden_deltas()[2];
    for (std::size_t end = 0; end < whole.size(); ++end) {
        check_refused("cut at " + std::to_string(end), "not a whole safetensors file",
                      [&] { check_with(2, whole.substr(0, end)); });
    }
}

TEST(a_file_with_bytes_behind_its_end_is_refused) {
    for (const char* tail : {"x", "more of it"}) {
        check_refused(tail, "not a whole safetensors file", [&] { check_with(2, golden_deltas()[2] + tail); });
    }
}

TEST(headers_that_lie_are_refused) {
    const std::string one = R"("a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})";
    const std::string two = R"("b": {"dtype": "U8", "shape": [1], "data_offsets": )";
    const auto refused = [](const char* words, const std::string& file) {
        check_refused(file, words, [&] { check_with(2, file); });
    };
    refused("its header claims 18446744073709551615 bytes", std::string(8, '\xff') + "{}");
    refused("does not begin with {", with_header(" {}"));
    refused("does not begin with {", with_header(""));
    refused("expected JSON", with_header("{} x"));
    refused("a zero byte", with_header(std::string("{}\0", 3)));
    refused("'a' twice", with_header("{" + one + ", " + one + "}", "x"));
    refused("a hole or an overlap", with_header("{" + one + ", " + two + "[0, 1]}}", "x"));
    refused("a hole or an overlap", with_header("{" + one + ", " + two + "[2, 3]}}", "xyz"));
    refused("its offsets do not fit", with_header("{" + one + ", " + two + "[2, 1]}}", "xy"));
    refused("data_offsets: expected sizes", with_header("{" + one + ", " + two + "[1, 1e30]}}", "xy"));
    refused("has no data_offsets", with_header("{" + one + ", " + two + "2}}", "xy"));
    refused("expected an object, got a list", with_header(R"({"a": ["U8", [1], [0, 1]]})", "x"));
    refused("expected 1 bytes of tensors, got 2", with_header("{" + one + "}", "xy"));
}
