#include "plan.h"

#include <utility>

#include "bind_plan.h"
#include "engine_weights.h"
#include "refit_plan.h"
#include "tensors.h"

namespace packnet::detail {
namespace {

/// The task is an input, int32 [1]: every index lies ready on the GPU, so that a request has nothing to write.
class SelectorPlan : public TensorRtPlan {
public:
    SelectorPlan(const PlanFile& file, const PlanOptions& options)
        : TensorRtPlan(file, options), indices_((kMaxTasks + 1) * kAlignment, "memory for the tasks") {
        const Stream stream;
        for (std::int32_t task = 1; task <= kMaxTasks; ++task) stream.copy(index_of(task), &task, sizeof task);
        stream.wait();
    }

    std::vector<std::pair<const char*, void*>> bindings(const Batch& batch) const override {
        return {{kTask, index_of(batch.task)}};
    }

private:
    void* index_of(int task) const { return indices_.as<std::byte>() + static_cast<std::size_t>(task) * kAlignment; }

    DeviceMemory indices_;
};

}  // namespace

std::unique_ptr<LoadedPlan> load_plan(const PlanFile& file, const Deltas& deltas, const PlanOptions& options) {
    const auto weights = [&] { return engine_weights(deltas, file.sidecar, options.threads); };
    switch (file.sidecar.mode) {
        case Switch::none: break;
        case Switch::selector: return std::make_unique<SelectorPlan>(file, options);
        case Switch::bind: return std::make_unique<BindPlan>(file, options, weights());
        case Switch::refit: return std::make_unique<RefitPlan>(file, options, weights());
    }
    return std::make_unique<TensorRtPlan>(file, options);
}

}  // namespace packnet::detail
