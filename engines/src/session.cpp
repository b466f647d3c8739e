#include "session.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "text.h"

namespace packnet::detail {
namespace {

void check_room(std::size_t count, std::size_t classes, std::size_t room) {
    if (room / classes >= count) return;
    throw Error({}, "room for logits", std::to_string(count) + " times " + std::to_string(classes) + " numbers",
                std::to_string(room));
}

}  // namespace

Session::Session(Sidecar sidecar, std::vector<SessionTask> tasks, int most_contexts, Loader load)
    : sidecar_(std::move(sidecar)),
      tasks_(std::move(tasks)),
      most_contexts_(static_cast<std::size_t>(most_contexts)),
      load_(std::move(load)),
      plan_(load_()) {
    contexts_.reserve(most_contexts_);
    if (sidecar_.mode == Switch::none) current_ = &tasks_.front();
    if (plan_->places() == 0) return;
    residents_ = std::make_unique<Residents>(plan_->places(), [this](int place, int task) { fill(place, task); });
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

void Session::set_task(std::string_view name) {
    const SessionTask& task = find(name);
    if (current_ == &task) return;
    current_ = nullptr;
    if (residents_) {
        const Residents::Lease lease(*residents_, task.index);
        plan_->finish(lease.place());
    }
    current_ = &task;
}

/// A plan that a failure has spoiled has one place: nobody else is in it here, and nobody comes before this is over.
void Session::fill(int place, int task) {
    if (!plan_) plan_ = load_();
    try {
        plan_->fill(place, task);
    } catch (...) {
        if (plan_->spoiled_by_failure()) {
            const std::lock_guard<std::mutex> lock(contexts_mutex_);
            for (auto& context : contexts_) context.reset();
            plan_.reset();
        }
        throw;
    }
}

void Session::infer(const SessionTask& task, const float* images, std::size_t count, float* logits, std::size_t room) {
    Lent(*this, true).infer(task, images, count, logits, room);
}

Session::Lent::Lent(Session& session, bool may_wait) : session_(session), waited_(may_wait) {
    std::unique_lock<std::mutex> lock(session.contexts_mutex_);
    const auto full = [&] { return session.free_.empty() && session.contexts_.size() == session.most_contexts_; };
    if (may_wait) session.returned_.wait(lock, [&] { return !full() || session.lent_to_requests_ == 0; });
    if (full()) {
        throw Error({}, "execution contexts", "at most " + std::to_string(session.most_contexts_) + " at a time",
                    "one more", "give one back, or allow more (the option contexts)");
    }
    if (session.free_.empty()) {
        session.contexts_.emplace_back();
        session.free_.reserve(session.contexts_.size());  // so that giving it back cannot fail
        number_ = session.contexts_.size() - 1;
    } else {
        number_ = session.free_.back();
        session.free_.pop_back();
    }
    session.lent_to_requests_ += may_wait;
}

Session::Lent::~Lent() {
    {
        const std::lock_guard<std::mutex> lock(session_.contexts_mutex_);
        session_.free_.push_back(number_);
        session_.lent_to_requests_ -= waited_;
    }
    session_.returned_.notify_all();
}

/// Have the task's weights in place, and `work` on the context; one that has failed is not used again.
template <typename Work>
void Session::Lent::run(const SessionTask& task, const Work& work) {
    if (busy_.exchange(true)) throw Error({}, "context", "one thread at a time", "two; take one for each thread");
    struct Idle {
        std::atomic<bool>& busy;
        ~Idle() { busy = false; }
    } const idle{busy_};
    std::optional<Residents::Lease> lease;
    if (session_.residents_) lease.emplace(*session_.residents_, task.index);
    std::unique_ptr<LoadedPlan::Context>& context = session_.contexts_[number_];
    if (!context) {
        const std::lock_guard<std::mutex> lock(session_.contexts_mutex_);
        context = session_.plan_->make_context();
    }
    try {
        work(*context, lease ? lease->place() : 0);
    } catch (...) {
        context.reset();
        throw;
    }
}

void Session::Lent::infer(const SessionTask& task, const float* images, std::size_t count, float* logits,
                          std::size_t room) {
    const std::size_t classes = task.classes.size(), image = session_.sidecar_.input.image_size();
    check_room(count, classes, room);
    const auto most = static_cast<std::size_t>(session_.sidecar_.batch.most);
    run(task, [&](LoadedPlan::Context& context, int place) {
        for (std::size_t start = 0; start < count; start += most) {
            const auto part = static_cast<int>(std::min(most, count - start));
            context.infer({task.index, place, images + start * image, part, logits + start * classes}, classes);
        }
    });
}

void Session::Lent::enqueue(const SessionTask& task, const float* images, std::size_t count, float* logits,
                            std::size_t room, void* stream) {
    const BatchRange& batch = session_.sidecar_.batch;
    if (count < static_cast<std::size_t>(batch.least) || count > static_cast<std::size_t>(batch.most)) {
        throw Error({}, "images", std::to_string(batch.least) + ".." + std::to_string(batch.most) + " at a time",
                    std::to_string(count), "infer takes any number");
    }
    check_room(count, static_cast<std::size_t>(session_.sidecar_.classes), room);
    run(task, [&](LoadedPlan::Context& context, int place) {
        context.enqueue({task.index, place, images, static_cast<int>(count), logits}, stream);
    });
}

}  // namespace packnet::detail
