#include "packnet/engine.h"

#include <utility>

#include "check_plan.h"
#include "cuda.h"
#include "packnet/deltas.h"
#include "plan.h"
#include "session.h"
#include "tensorrt.h"

namespace packnet {
namespace {

using detail::LoadedPlan;

detail::Machine this_machine() {
    const detail::CudaDevice gpu = detail::first_gpu();
    return {detail::tensorrt_flavour(), detail::tensorrt_version(), gpu.name, gpu.compute_capability};
}

/// The tasks that a plan can become: all of the pack where weights are given to it, else those that are in it.
std::vector<detail::SessionTask> tasks_of(const Sidecar& sidecar, const Pack& pack, const Deltas& deltas) {
    std::vector<detail::SessionTask> tasks;
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

std::unique_ptr<LoadedPlan> load(const std::filesystem::path& plan, const Sidecar& sidecar, const Deltas& deltas,
                                 unsigned threads) {
    const detail::MappedFile file = detail::open_plan(plan, sidecar);
    detail::check_machine(plan, sidecar, this_machine());
    try {
        return detail::load_plan(plan.string(), file.bytes(), sidecar, deltas, threads);
    } catch (const EnvironmentFault&) {
        throw;
    } catch (const Error& error) {
        if (!error.file().empty()) throw;
        throw Error(plan.string(), error.subject(), error.expected(), error.got(), error.next());
    }
}

}  // namespace

struct Engine::Content {
    detail::Session session;
};

Engine::Engine(const std::filesystem::path& plan, const Pack& pack, unsigned threads) {
    const Sidecar sidecar = read_sidecar(plan);
    detail::check_pack(plan, sidecar, pack);
    const auto deltas = std::make_shared<const Deltas>(pack, -1, threads);  // kept: the plan may have to be loaded anew
    content_.reset(new Content{{sidecar, tasks_of(sidecar, pack, *deltas),
                                [plan, sidecar, deltas, threads] { return load(plan, sidecar, *deltas, threads); }}});
}

Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

const Sidecar& Engine::sidecar() const noexcept { return content_->session.sidecar(); }

const InputSpec& Engine::input(std::string_view task) const { return content_->session.find(task).input; }

std::vector<std::string> Engine::tasks() const {
    std::vector<std::string> names;
    for (const detail::SessionTask& task : content_->session.tasks()) names.push_back(task.name);
    return names;
}

const std::vector<std::string>& Engine::class_names(std::string_view task) const {
    return content_->session.find(task).classes;
}

std::string Engine::task() const { return content_->session.task(); }

void Engine::set_task(std::string_view name) { content_->session.set_task(name); }

std::vector<float> Engine::infer(const float* images, std::size_t count) {
    return content_->session.infer(images, count);
}

}  // namespace packnet
