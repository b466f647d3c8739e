// A plan's sidecar with one thing wrong, and one that does not fit the machine, the pack or the plan.

#include "check.h"
#include "check_plan.h"
#include "golden.h"
#include "json_text.h"
#include "sidecar.h"

namespace {

using packnet::Sidecar;

Sidecar parse(const std::string& text) { return packnet::detail::parse_sidecar("x.plan.json", ExactBytes(text)); }

struct Case {
    const char* name;
    const char* path;   // to the field that is changed
    std::string value;  // JSON; empty: the field is removed
    const char* words;
};

const std::string kRemoved;

const Case kCases[] = {
    {"another format", "format", R"("packnet-pack")", "format: expected 'packnet-plan', got 'packnet-pack'"},
    {"another version", "version", "2", "reads version 1: got 2"},
    {"a version that is true", "version", "true", "reads version 1: got true"},
    {"another flavour", "flavour", R"("onnx")", "flavour: expected tensorrt or tensorrt-rtx, got 'onnx'"},
    {"a version of two lines", "tensorrt", json_of("a\nb"), "tensorrt: expected a printable text"},
    {"a field that is unknown", "later", "1", "damaged: expected no other fields than it has, got 'later'"},
    {"a field of a weight that is unknown", "weights/0/later", "1", "weights[0]: expected no other fields than it has"},
    {"a GPU without a driver", "gpu", R"({"name": "x", "compute_capability": "8.6", "memory": 1})", "gpu.driver"},
    {"a hash of the graph that is none", "onnx_sha256", R"("x")", "onnx_sha256: expected 64 lower-case hex digits"},
    {"a layer of no weight", "sparsity/0/name", R"("conv9.weight")", "sparsity: expected the names of the banked"},
    {"a layer of a weight that is not banked", "weights/0/banked", "false", "sparsity: expected the names of the"},
    {"a promise as a number", "sparsity/0/promised", "0", "sparsity[0].promised: expected true or false, got 0"},
    {"a layer that is picked perhaps", "sparsity/0/picked", R"("?")", "sparsity[0].picked: expected true or false"},
    {"no version of TensorRT", "tensorrt", kRemoved, "tensorrt: expected a value, got nothing"},
    {"compute capabilities that are no list", "compute_capabilities", R"("8.6")",
     "compute_capabilities: expected a list"},
    {"another switch mode", "switch", R"("swap")", "switch: expected one of refit, bind, selector, none, got 'swap'"},
    {"another precision", "precision", R"("int8")", "precision: expected one of fp32, fp16, bf16, got 'int8'"},
    {"a batch of none", "batch/least", "0", "batch.least: expected 1.."},
    {"a best batch below the least", "batch/least", "3", "batch.best: expected 3..1048576, got 2"},
    {"a most batch below the best", "batch/most", "1", "batch.most: expected 2..1048576, got 1"},
    {"an input of two channels", "input/shape/0", "2", "input.shape[0]: expected 1 or 3 channels"},
    {"no classes", "classes", "0", "classes: expected 1..16777216, got 0"},
    {"fewer classes than a task", "classes", "4", "classes: expected 5 or more for task flowers, got 4"},
    {"a hash in capitals", "fixed_sha256", json_of(std::string(64, 'A')), "fixed_sha256: expected 64 lower-case"},
    {"no plan hash", "plan_sha256", R"("")", "plan_sha256"},
    {"no tasks", "tasks", "[]", "tasks: expected at least one, got none"},
    {"a task's index", "tasks/1/index", "3", "tasks[1].index: expected 2, got 3"},
    {"a task's name", "tasks/0/name", R"("../x")", "tasks[0].name"},
    {"no weights to give", "weights", "[]", "weights: expected some for switch mode refit, got 0"},
    {"weights of a selector", "switch", R"("selector")", "weights: expected none for switch mode selector"},
    {"a weight of another type", "weights/0/dtype", R"("fp16")", "expected fp32, got fp16"},
    {"a weight of no size", "weights/0/shape", "[5, 0]", "weights[0].shape[1]: expected 1.."},
    {"a weight without sizes", "weights/0/shape", "[]", "weights[0].shape: expected 1 to 8 sizes"},
    {"a weight that no memory holds", "weights/0/shape", "[1073741824, 1073741824]",
     "weights[0].shape: expected 1 to 8 sizes"},
    {"banked as a number", "weights/0/banked", "1", "weights[0].banked: expected true or false, got 1"},
    {"three norm tensors", "norms/0/norm", R"(["a", "b", "c"])", "norms[0].norm: expected 4 names"},
    {"a negative epsilon", "norms/0/epsilon", "-1", "norms[0].epsilon: expected a number from 0"},
    {"two axes of channels", "norms/0/shape", "[-1, -1]", "norms[0].shape: expected -1, then 1s"},
    {"no channels", "norms/0/shape", "[1, 1]", "norms[0].shape"},
    {"no shape", "norms/0/shape", "[]", "norms[0].shape"},
    {"a shape of 0", "norms/0/shape", "[-1, 0]", "norms[0].shape"},
    {"TF32 as a number", "tf32", "1", "tf32: expected true or false, got 1"},
    {"sparsity without a name", "sparsity/0/name", kRemoved, "sparsity[0].name: expected a value"},
    {"sparse weights as a text", "sparse_weights", R"("yes")", "sparse_weights: expected true or false"},
};

const std::filesystem::path kPlan = "x.plan";
const packnet::detail::Machine kMachine{"tensorrt", "10.13.3.9", "NVIDIA GeForce RTX 3090", "8.6"};

Sidecar golden() { return parse(golden_sidecar()); }

packnet::Pack golden_pack() { return packnet::open_pack(golden_path()); }

}  // namespace

TEST(every_field_is_checked) {
    const std::string golden = golden_sidecar();
    for (const Case& item : kCases) {
        check_refused(item.name, item.words, [&] { parse(changed(golden, item.path, item.value)); });
    }
}

TEST(a_weight_and_a_layer_are_listed_once) {
    const std::string golden = golden_sidecar();
    for (const char* list : {"weights", "sparsity"}) {
        const std::string path = list, first(value_at(golden, path + "/0").raw());
        check_refused(path, "'conv1.weight' is listed twice", [&] { parse(changed(golden, path + "/-", first)); });
    }
}

TEST(what_is_no_json_is_refused) {
    check_refused("empty", "damaged: expected JSON", [] { parse(""); });
    check_refused("cut", "damaged: expected JSON", [] { parse(golden_sidecar().substr(0, 500)); });
    check_refused("a list", "damaged: expected an object", [] { parse("[]"); });
}

TEST(a_sidecar_says_what_the_plan_is) {
    const Sidecar sidecar = golden();
    CHECK(sidecar.mode == packnet::Switch::refit);
    CHECK_EQUAL(sidecar.batch.best, 2);
    CHECK_EQUAL(sidecar.weights[0].bytes(), std::size_t{540});
    CHECK_EQUAL(sidecar.tasks[2].name, "flowers");
    CHECK_EQUAL(packnet::sidecar_path("birds.plan").string(), "birds.plan.json");
    check_refused("no sidecar", "none.plan.json: no such file", [] { packnet::read_sidecar("none.plan"); });
}

TEST(a_plan_fits_its_machine_and_pack) {
    packnet::detail::check_machine(kPlan, golden(), kMachine);
    packnet::detail::check_pack(kPlan, golden(), golden_pack());
}

TEST(a_plan_of_another_machine_is_refused) {
    const auto refused = [](packnet::detail::Machine machine, const char* words) {
        check_refused("machine", words, [&] { packnet::detail::check_machine(kPlan, golden(), machine); });
    };
    packnet::detail::Machine machine = kMachine;
    machine.flavour = "tensorrt-rtx";
    refused(machine, "x.plan: backend: expected tensorrt, got tensorrt-rtx");
    machine = kMachine;
    machine.tensorrt = "10.13.3.10";
    refused(machine, "version of tensorrt: expected 10.13.3.9, got 10.13.3.10");
    machine = kMachine;
    machine.compute_capability = "9.0";
    refused(machine, "compute capability: expected 8.6, 8.9, got 9.0; this is a NVIDIA GeForce RTX 3090");
}

TEST(a_plan_of_another_pack_is_refused) {
    const auto refused = [](const Sidecar& sidecar, const packnet::Pack& pack, const char* words) {
        check_refused("pack", words, [&] { packnet::detail::check_pack(kPlan, sidecar, pack); });
    };
    Sidecar sidecar = golden();
    sidecar.graph_sha256 = std::string(64, '0');
    refused(sidecar, golden_pack(), "has another backbone");
    sidecar = golden();
    sidecar.input.mean[0] += 1;
    refused(sidecar, golden_pack(), "has another input");
    packnet::Pack shorter = golden_pack();
    shorter.tasks.pop_back();
    refused(golden(), shorter, "task 3: expected 'flowers' of 5 classes");
    packnet::Pack other = golden_pack();
    other.tasks[0].sha256 = std::string(64, '0');
    refused(golden(), other, "task 1: expected 'shapes'");
    packnet::Pack grown = golden_pack();
    grown.tasks.push_back({"cars", 4, 6, std::string(64, '0'), 1});
    refused(golden(), grown, "task 'cars': expected at most 5 classes");
    grown.tasks.back().classes = 5;
    packnet::detail::check_pack(kPlan, golden(), grown);
}

TEST(a_plan_of_another_image_size_wants_the_packs_input_in_proportion) {
    Sidecar sidecar = golden();
    const packnet::InputSpec& input = golden_pack().input;
    sidecar.input.height = sidecar.input.width = 2 * std::min(input.height, input.width);
    sidecar.input.resize = 2 * input.resize;
    packnet::detail::check_pack(kPlan, sidecar, golden_pack());
    ++sidecar.input.resize;
    check_refused("resize", "has another input", [&] { packnet::detail::check_pack(kPlan, sidecar, golden_pack()); });
}

TEST(a_plan_that_is_not_its_sidecars_is_refused) {
    const GoldenCopy copy;
    const std::filesystem::path plan = copy.path / "x.plan";
    const Sidecar sidecar = golden();
    const auto open = [&] { packnet::detail::open_plan(plan, sidecar); };
    check_refused("missing", "no such file; build it with packnet build", open);
    write_file(plan, "an engine");
    open();
    write_file(plan, "an engine!");
    check_refused("longer", "size in bytes: expected 9, got 10", open);
    write_file(plan, "an Engine");
    check_refused("damaged", "damaged: sha256: expected", open);
}
