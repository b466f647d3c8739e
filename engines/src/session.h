/// @file
/// What an Engine does around TensorRT: which task it is, who may run when, requests of any size. No TensorRT, no CUDA.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "packnet/sidecar.h"

namespace packnet::detail {

/// A plan on the GPU: the little of TensorRT and CUDA that a session needs, and that its tests stand in for.
class LoadedPlan {
public:
    virtual ~LoadedPlan() = default;

    /// Become a task, by its index in the pack; done on return. Nothing else runs on the plan meanwhile.
    /// @throws Error  it failed, perhaps half way: the plan is of no use any more.
    virtual void become(int task) = 0;

    /// What one thread needs to run it. Does not outlive the plan.
    class Context {
    public:
        virtual ~Context() = default;

        /// @param images  float32 [count, channels, height, width]; the plan's least <= count <= most.
        /// @param logits  float32 [count, the plan's classes], complete on return.
        virtual void infer(const float* images, int count, float* logits) = 0;
    };
    virtual std::unique_ptr<Context> make_context() = 0;
};

/// A task that a session can be.
struct SessionTask {
    std::string name;
    int index;
    std::vector<std::string> classes;  // names
    InputSpec input;                   // at the plan's size
};

/// Any number of threads may call anything at the same time. As many contexts come to be as threads ever infer at once.
class Session {
public:
    using Loader = std::function<std::unique_ptr<LoadedPlan>()>;

    /// Load the plan. A plan of one task is that task at once; every other one is none yet.
    Session(Sidecar sidecar, std::vector<SessionTask> tasks, Loader load);

    const Sidecar& sidecar() const noexcept { return sidecar_; }
    const std::vector<SessionTask>& tasks() const noexcept { return tasks_; }

    /// @throws Error  there is no such task; names those there are.
    const SessionTask& find(std::string_view name) const;

    /// The task it is; empty where it is none.
    std::string task() const;

    /// Wait for requests that are running, hold back those that come, switch. If that fails, the session is no task,
    /// and the next call loads the plan anew.
    void set_task(std::string_view name);

    /// @param images  float32 [count, channels, height, width].
    /// @return        float32 [count, the task's classes].
    std::vector<float> infer(const float* images, std::size_t count);

private:
    std::unique_ptr<LoadedPlan::Context> take_context();

    const Sidecar sidecar_;
    const std::vector<SessionTask> tasks_;
    const Loader load_;
    std::mutex turnstile_;             // whoever wants either lock passes here, so that a switch is not starved
    mutable std::shared_mutex guard_;  // requests share it, a switch has it alone; for the two below
    std::unique_ptr<LoadedPlan> plan_;
    const SessionTask* task_ = nullptr;
    std::mutex pool_mutex_;
    std::vector<std::unique_ptr<LoadedPlan::Context>> idle_;  // gone before the plan
};

}  // namespace packnet::detail
