#include "session.h"

#include <algorithm>
#include <utility>

#include "text.h"

namespace packnet::detail {

Session::Session(Sidecar sidecar, std::vector<SessionTask> tasks, Loader load)
    : sidecar_(std::move(sidecar)), tasks_(std::move(tasks)), load_(std::move(load)), plan_(load_()) {
    if (sidecar_.mode == Switch::none) task_ = &tasks_.front();
}

const SessionTask& Session::find(std::string_view name) const {
    std::string known;
    for (const SessionTask& task : tasks_) {
        if (task.name == name) return task;
        known += (known.empty() ? "" : ", ") + task.name;
    }
    throw Error({}, "task", "one of the plan's: " + known, in_quotes(name),
                sidecar_.mode == Switch::none
                    ? "this plan is of one task; build one with --switch refit, bind or selector"
                    : "see what the pack has: packnet inspect");
}

std::string Session::task() const {
    const std::shared_lock<std::shared_mutex> lock(guard_);
    return task_ ? task_->name : std::string();
}

void Session::set_task(std::string_view name) {
    const SessionTask& task = find(name);
    const std::lock_guard<std::mutex> turn(turnstile_);
    const std::unique_lock<std::shared_mutex> lock(guard_);
    if (task_ == &task) return;
    task_ = nullptr;
    if (!plan_) plan_ = load_();
    try {
        plan_->become(task.index);
    } catch (...) {
        idle_.clear();
        plan_.reset();
        throw;
    }
    task_ = &task;
}

std::vector<float> Session::infer(const float* images, std::size_t count) {
    std::shared_lock<std::shared_mutex> lock(guard_, std::defer_lock);
    {
        const std::lock_guard<std::mutex> turn(turnstile_);
        lock.lock();
    }
    if (!task_) throw Error({}, "engine", "a task, set by set_task", "none yet, or none since a switch failed");
    std::unique_ptr<LoadedPlan::Context> context = take_context();
    const std::size_t image = sidecar_.input.image_size(), classes = task_->classes.size();
    const auto width = static_cast<std::size_t>(sidecar_.classes);
    const auto least = static_cast<std::size_t>(sidecar_.batch.least),
               most = static_cast<std::size_t>(sidecar_.batch.most);
    std::vector<float> logits(count * classes), wide(std::min(most, std::max(least, count)) * width), filled_up;
    for (std::size_t start = 0; start < count; start += most) {
        const std::size_t part = std::min(most, count - start);
        const float* batch = images + start * image;
        if (part < least) {  // the plan takes no fewer: black images go along
            filled_up.assign(least * image, 0.0f);
            std::copy(batch, batch + part * image, filled_up.begin());
            batch = filled_up.data();
        }
        context->infer(batch, static_cast<int>(std::max(part, least)), wide.data());
        for (std::size_t i = 0; i < part; ++i) {
            std::copy_n(&wide[i * width], classes, &logits[(start + i) * classes]);
        }
    }
    const std::lock_guard<std::mutex> pool(pool_mutex_);
    idle_.push_back(std::move(context));  // one that has failed is not used again
    return logits;
}

std::unique_ptr<LoadedPlan::Context> Session::take_context() {
    {
        const std::lock_guard<std::mutex> pool(pool_mutex_);
        if (!idle_.empty()) {
            std::unique_ptr<LoadedPlan::Context> context = std::move(idle_.back());
            idle_.pop_back();
            return context;
        }
    }
    return plan_->make_context();
}

}  // namespace packnet::detail
