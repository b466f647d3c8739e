#include "residents.h"

#include <algorithm>
#include <utility>

namespace packnet::detail {

Residents::Residents(int places, Fill fill) : fill_(std::move(fill)), places_(static_cast<std::size_t>(places)) {}

int Residents::take(int task) {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto begin = [&](Place& place) {
        ++place.running;
        place.used = ++clock_;
        return static_cast<int>(&place - places_.data());
    };
    for (;;) {
        const auto of_it = [&](const Place& place) { return place.task == task || place.promised == task; };
        const auto known = std::find_if(places_.begin(), places_.end(), of_it);
        if (known != places_.end()) {
            if (known->promised == 0) return begin(*known);
            if (known->promised != task) {
                changed_.wait(lock);  // it is about to leave
            } else if (wait_for_promise(*known, lock)) {
                return begin(*known);
            }
            continue;
        }
        Place* place = least_used();
        if (!place) {
            changed_.wait(lock);
            continue;
        }
        place->promised = task;
        changed_.wait(lock, [&] { return place->running == 0; });
        place->task = 0;
        const auto number = static_cast<int>(place - places_.data());
        lock.unlock();
        try {
            fill_(number, task);
        } catch (...) {
            lock.lock();
            place->promised = 0;
            place->due = std::exchange(place->waiting, 0);
            changed_.notify_all();
            throw;
        }
        lock.lock();
        place->task = task;
        place->promised = 0;
        place->due = std::exchange(place->waiting, 0);
        changed_.notify_all();
        return begin(*place);
    }
}

/// Wait for the task that somebody else is filling in. False where that failed.
bool Residents::wait_for_promise(Place& place, std::unique_lock<std::mutex>& lock) {
    ++place.waiting;
    changed_.wait(lock, [&] { return place.due > 0; });
    --place.due;
    if (place.due == 0) changed_.notify_all();
    return place.task != 0;
}

void Residents::leave(int place) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--places_[static_cast<std::size_t>(place)].running == 0) changed_.notify_all();
}

/// The place to take a task's: free of requests if one is, and the longest since the last one began.
Residents::Place* Residents::least_used() {
    Place* best = nullptr;
    for (Place& place : places_) {
        if (place.promised || place.due) continue;
        if (!best || std::pair(place.running != 0, place.used) < std::pair(best->running != 0, best->used))
            best = &place;
    }
    return best;
}

}  // namespace packnet::detail
