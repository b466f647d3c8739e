#include "engine.h"

#include <cmath>
#include <utility>

#include "check_plan.h"
#include "cuda.h"
#include "packnet/deltas.h"
#include "parity.h"
#include "plan.h"
#include "tensorrt.h"

namespace packnet::detail {
namespace {

/// The tasks that a plan can run: all of the pack where weights are given to it, else those that are in it.
std::vector<SessionTask> tasks_of(const Sidecar& sidecar, const Pack& pack, const Deltas& deltas) {
    std::vector<SessionTask> tasks;
    const InputSpec& plans = sidecar.input;
    const auto add = [&](const auto& task) {
        TaskContent content = deltas.content(task.index);
        const bool as_packed = content.input.height == plans.height && content.input.width == plans.width;
        tasks.push_back({task.name, task.index, std::move(content.classes),
                         as_packed ? content.input : content.input.sized(plans.height)});
    };
    if (sidecar.weights.empty()) {
        for (const PlanTask& task : sidecar.tasks) add(task);
    } else {
        for (const TaskEntry& task : pack.tasks) add(task);
    }
    return tasks;
}

int in_range(const char* option, std::int64_t least, std::int64_t most, std::int64_t given) {
    if (given < least || given > most) {
        throw Error({}, std::string("option ") + option, std::to_string(least) + ".." + std::to_string(most),
                    std::to_string(given));
    }
    return static_cast<int>(given);
}

PlanOptions plan_options(const packnet_options& options) {
    return {in_range("bank", PACKNET_BANK_HOST, PACKNET_BANK_DEVICE, options.bank) == PACKNET_BANK_DEVICE,
            in_range("resident", 1, kMaxTasks, options.resident), options.cuda_graphs != 0, options.threads};
}

constexpr int kMostContexts = 1024;

}  // namespace

struct Engine::Files {
    std::filesystem::path plan;
    Sidecar sidecar;
    Pack pack;
    Deltas deltas;
    PlanOptions options;
    int device;

    std::unique_ptr<LoadedPlan> load() const {
        const MappedFile file = open_plan(plan, sidecar);
        const CudaDevice gpu = gpu_of(device);
        check_machine(plan, sidecar, {tensorrt_flavour(), tensorrt_version(), gpu.name, gpu.compute_capability});
        const OnDevice here(device);
        try {
            return load_plan({plan.string(), file.bytes(), sidecar}, deltas, options);
        } catch (const EnvironmentFault&) {
            throw;
        } catch (const Error& error) {
            if (!error.file().empty()) throw;
            throw Error(plan.string(), error.subject(), error.expected(), error.got(), error.next());
        }
    }
};

Engine::Engine(const std::filesystem::path& plan, const std::filesystem::path& pack_path,
               const packnet_options& options)
    : device_(options.device) {
    const PlanOptions of_plan = plan_options(options);
    const int contexts = in_range("contexts", 1, kMostContexts, options.contexts);
    Sidecar sidecar = read_sidecar(plan);
    Pack pack = open_pack(pack_path);
    check_pack(plan, sidecar, pack);
    Deltas deltas(pack, -1, options.threads);
    files_ = std::make_shared<const Files>(
        Files{plan, std::move(sidecar), std::move(pack), std::move(deltas), of_plan, device_});
    session_ = std::make_unique<Session>(files_->sidecar, tasks_of(files_->sidecar, files_->pack, files_->deltas),
                                         contexts, [files = files_] { return files->load(); });
}

Engine::~Engine() {
    try {
        const OnDevice here(device_);
        session_.reset();
    } catch (...) {
        session_.reset();  // the GPU is gone; so is what lay there
    }
}

const SessionTask& Engine::task(const char* name) const {
    if (name) return session_->find(name);
    const SessionTask* const current = session_->current();
    if (!current) throw Error({}, "engine", "a task, set or named", "none yet, or none since a switch failed");
    return *current;
}

packnet_difference Engine::check(const SessionTask& task) {
    const Sidecar& sidecar = session_->sidecar();
    const InputSpec& probes = files_->pack.input;
    if (probes.height != sidecar.input.height || probes.width != sidecar.input.width) {
        throw Error(files_->plan.string(), "size of the images, for a check", "the pack's, whose logits are known",
                    "another", "check it in Python: packnet verify --plan");
    }
    const std::vector<float> images = probe_batch(probes);
    const Tensor expected = files_->deltas.content(task.index).probe_logits;
    std::vector<float> got(expected.values.size());
    session_->infer(task, images.data(), kProbeImages, got.data(), got.size());
    const packnet_difference difference = difference_of(got, expected.values, sidecar.precision);
    if (!(difference.largest <= difference.allowed)) {
        throw CheckFailed(files_->plan.string(), "logits of task " + task.name,
                          "those of the pack, within " + std::to_string(difference.allowed),
                          std::to_string(difference.largest) + " beside them",
                          "do not use the plan: build it with another --switch");
    }
    return difference;
}

}  // namespace packnet::detail
