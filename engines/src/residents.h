/// @file
/// Which tasks lie in an engine, and who may run: requests of a task that lies there run side by side; one of another
/// task waits until a place is free of requests, and has its task put there.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace packnet::detail {

/// A lock with tasks as keys. Nobody is starved: once a request waits for a place, those that come later for the task
/// that is leaving it wait too; and every request that waited for the new task runs before it has to leave again.
///
/// Any number of threads may call it at the same time.
class Residents {
public:
    /// Puts a task into a place. No request runs there meanwhile; on others some may, and other fills.
    using Fill = std::function<void(int place, int task)>;

    /// @param places  tasks that can lie there at once, 1 or more.
    Residents(int places, Fill fill);

    /// The right to run as a task on the place where it lies, which keeps it until this is gone. Costs a lock where the
    /// task lies there already; else waits for a place, and fills it.
    class Lease {
    public:
        /// @throws  whatever `fill` throws: the place is empty then.
        Lease(Residents& residents, int task) : residents_(residents), place_(residents.take(task)) {}
        ~Lease() { residents_.leave(place_); }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;

        int place() const noexcept { return place_; }

    private:
        Residents& residents_;
        const int place_;
    };

private:
    struct Place {
        int task = 0;            // that lies there; 0 for none
        int promised = 0;        // the task that is to come; 0 for none
        int running = 0;         // requests
        int waiting = 0;         // of the promised task, beside the one that fills
        int due = 0;             // of those, who have not begun since it came
        std::uint64_t used = 0;  // when a request last began
    };

    int take(int task);
    void leave(int place) noexcept;
    bool wait_for_promise(Place& place, std::unique_lock<std::mutex>& lock);
    Place* least_used();

    const Fill fill_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Place> places_;
    std::uint64_t clock_ = 0;
};

}  // namespace packnet::detail
