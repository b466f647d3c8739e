/// @file
/// What an Engine does around TensorRT: tasks, contexts, requests of any size. No TensorRT, no CUDA.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "loaded_plan.h"
#include "residents.h"
#include "sidecar.h"

namespace packnet::detail {

/// A task that a session can run.
struct SessionTask {
    std::string name;
    int index;
    std::vector<std::string> classes;  // names
    InputSpec input;                   // at the plan's size
};

/// Any number of threads may call anything at the same time. Every request carries its task; which tasks can run at the
/// same time is the plan's business (LoadedPlan::places).
class Session {
public:
    using Loader = std::function<std::unique_ptr<LoadedPlan>()>;

    /// Load the plan. A plan of one task has that one as its current task at once; every other one has none yet.
    /// @param most_contexts  that may exist at the same time, 1 or more.
    Session(Sidecar sidecar, std::vector<SessionTask> tasks, int most_contexts, Loader load);

    const Sidecar& sidecar() const noexcept { return sidecar_; }
    const std::vector<SessionTask>& tasks() const noexcept { return tasks_; }

    /// @throws Error  there is no such task; names those there are.
    const SessionTask& find(std::string_view name) const;

    /// The task of requests that name none; null where there is none.
    const SessionTask* current() const noexcept { return current_; }

    /// Have its weights in place, and make it the current task. The current one again costs nothing.
    /// @throws Error  no such task; or it failed: then there is no current task.
    void set_task(std::string_view name);

    /// A context that is somebody's until the object is gone; then it is the next one's. For one thread at a time.
    class Lent {
    public:
        Lent(Session& session, bool may_wait);
        ~Lent();
        Lent(const Lent&) = delete;
        Lent& operator=(const Lent&) = delete;

        /// Run images of a task, as many as there are.
        /// @param logits  float32 [count, the task's classes].
        /// @param room    numbers that `logits` has room for.
        void infer(const SessionTask& task, const float* images, std::size_t count, float* logits, std::size_t room);

        /// Enqueue one batch on the caller's stream; images and logits lie on the GPU.
        /// @param logits  float32 [count, the plan's classes].
        /// @param room    numbers that `logits` has room for.
        void enqueue(const SessionTask& task, const float* images, std::size_t count, float* logits, std::size_t room,
                     void* stream);

    private:
        template <typename Work>
        void run(const SessionTask& task, const Work& work);

        Session& session_;
        const bool waited_;  // it may have: others may wait for it in turn
        std::size_t number_;
        std::atomic<bool> busy_{false};
    };

    /// Lent::infer on a context of its own, for which it may have to wait.
    void infer(const SessionTask& task, const float* images, std::size_t count, float* logits, std::size_t room);

private:
    void fill(int place, int task);

    const Sidecar sidecar_;
    const std::vector<SessionTask> tasks_;
    const std::size_t most_contexts_;
    const Loader load_;
    std::atomic<const SessionTask*> current_{nullptr};
    std::unique_ptr<LoadedPlan> plan_;      // null after a fill that spoiled it
    std::unique_ptr<Residents> residents_;  // null where all tasks lie in the plan
    std::mutex contexts_mutex_;
    std::condition_variable returned_;
    std::vector<std::unique_ptr<LoadedPlan::Context>> contexts_;  // by number; gone before the plan
    std::vector<std::size_t> free_;                               // numbers; the last one is the next to be lent
    std::size_t lent_to_requests_ = 0;                            // that will come back by themselves
};

}  // namespace packnet::detail
