#include "check_plan.h"

#include <algorithm>

#include "text.h"

namespace packnet::detail {
namespace {

constexpr const char* kBuildAgain = "or build the plan again";

void expect(const std::filesystem::path& plan, const std::string& what, const std::string& expected,
            const std::string& got, const std::string& why) {
    if (expected != got) throw Error(plan.string(), what, expected, got, why + ", " + kBuildAgain);
}

std::string joined(const std::vector<std::string>& texts) {
    std::string all;
    for (const std::string& text : texts) all += (all.empty() ? "" : ", ") + text;
    return all;
}

}  // namespace

void check_machine(const std::filesystem::path& plan, const Sidecar& sidecar, const Machine& machine) {
    expect(plan, "backend", sidecar.flavour, machine.flavour, "link with " + sidecar.flavour);
    expect(plan, "version of " + machine.flavour, sidecar.tensorrt, machine.tensorrt, "install the one it needs");
    const std::vector<std::string>& known = sidecar.compute_capabilities;
    if (std::find(known.begin(), known.end(), machine.compute_capability) == known.end()) {
        expect(plan, "compute capability", joined(known), machine.compute_capability, "this is a " + machine.gpu);
    }
}

void check_pack(const std::filesystem::path& plan, const Sidecar& sidecar, const Pack& pack) {
    const std::string path = in_quotes(pack.path.string());
    expect(plan, "graph_sha256", sidecar.graph_sha256, pack.graph_sha256,
           path + " has another backbone; give the pack it was built from");
    const bool as_packed = sidecar.input.sha256() == pack.input.sha256();
    const InputSpec input = as_packed ? pack.input : pack.input.sized(sidecar.input.height);
    expect(plan, "input_sha256", sidecar.input.sha256(), input.sha256(), path + " has another input");
    const auto shown = [](const auto& task) {
        return in_quotes(task.name) + " of " + std::to_string(task.classes) + " classes, sha256 " + task.sha256;
    };
    for (const PlanTask& task : sidecar.tasks) {
        const auto position = static_cast<std::size_t>(task.index) - 1;
        expect(plan, "task " + std::to_string(task.index), shown(task),
               position < pack.tasks.size() ? shown(pack.tasks[position]) : "none",
               path + " has another task there; give the pack it was built from, or one grown from it");
    }
    for (const TaskEntry& task : pack.tasks) {
        const bool switched = sidecar.mode == Switch::refit || sidecar.mode == Switch::bind;
        if (!switched || task.classes <= sidecar.classes) continue;
        throw Error(plan.string(), "task " + in_quotes(task.name),
                    "at most " + std::to_string(sidecar.classes) + " classes, as many logits as the plan has",
                    std::to_string(task.classes), "build the plan again (--classes leaves room for later tasks)");
    }
}

MappedFile open_plan(const std::filesystem::path& plan, const Sidecar& sidecar) {
    MappedFile file(plan, "no such file; build it with packnet build");
    expect(plan, "size in bytes", std::to_string(sidecar.plan_bytes), std::to_string(file.bytes().size),
           "the plan and its sidecar are not of one build");
    file.check_sha256(sidecar.plan_sha256);
    return file;
}

}  // namespace packnet::detail
