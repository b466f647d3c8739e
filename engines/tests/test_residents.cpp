// Who may run on a plan, and when tasks change places: threads that want different tasks.

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "check.h"
#include "residents.h"

namespace {

using packnet::detail::Residents;

/// Places with the task that lies in each, and what must never happen.
struct World {
    std::vector<std::atomic<int>> tasks;
    std::vector<std::atomic<int>> running;
    std::atomic<int> fills{0}, fills_amid_requests{0}, wrong{0};
    std::atomic<bool> next_fails{false};
    Residents residents;

    explicit World(int places)
        : tasks(static_cast<std::size_t>(places)),
          running(static_cast<std::size_t>(places)),
          residents(places, [this](int place, int task) { fill(static_cast<std::size_t>(place), task); }) {}

    void fill(std::size_t place, int task) {
        ++fills;
        fills_amid_requests += running[place] != 0;
        tasks[place] = 0;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        fills_amid_requests += running[place] != 0;
        if (next_fails.exchange(false)) throw packnet::Error({}, "the fill failed");
        tasks[place] = task;
    }

    void request(int task, int microseconds = 0) {
        const Residents::Lease lease(residents, task);
        const auto place = static_cast<std::size_t>(lease.place());
        ++running[place];
        wrong += tasks[place] != task;
        if (microseconds) std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
        wrong += tasks[place] != task;
        --running[place];
    }
};

void join_all(std::vector<std::thread>& threads) {
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST(a_task_that_is_there_is_not_brought_again) {
    World world(2);
    for (int task : {1, 2, 2, 1, 1}) world.request(task);
    CHECK_EQUAL(world.fills.load(), 2);
}

TEST(the_task_that_nobody_wants_makes_room) {
    World world(2);
    for (int task : {1, 2, 1, 3}) world.request(task);  // 3 takes the place of 2
    CHECK_EQUAL(world.fills.load(), 3);
    world.request(1);
    CHECK_EQUAL(world.fills.load(), 3);
    world.request(2);
    CHECK_EQUAL(world.fills.load(), 4);
}

TEST(a_busy_place_is_left_alone_while_another_is_free) {
    World world(2);
    world.request(2);
    const Residents::Lease held(world.residents, 1);
    world.request(3);  // would wait for ever for the place of 1
    CHECK_EQUAL(world.fills.load(), 3);
}

TEST(a_fill_that_fails_leaves_nobody_there) {
    World world(1);
    world.request(1);
    world.next_fails = true;
    check_refused("fill", "the fill failed", [&] { world.request(2); });
    world.request(1);
    CHECK_EQUAL(world.fills.load(), 3);
    CHECK_EQUAL(world.wrong.load(), 0);
}

TEST(any_tasks_of_any_threads) {
    for (int places : {1, 2, 3}) {
        World world(places);
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < 8; ++i) {
            threads.emplace_back([&world, i] {
                std::mt19937 random(i);
                for (int request = 0; request < 200; ++request) {
                    const int task = 1 + static_cast<int>(random() % 4);
                    if (random() % 50 == 0) world.next_fails = true;
                    try {
                        world.request(task, static_cast<int>(random() % 40));
                    } catch (const packnet::Error&) {
                        // the fill that was made to fail
                    }
                }
            });
        }
        join_all(threads);
        CHECK_EQUAL(world.wrong.load(), 0);
        CHECK_EQUAL(world.fills_amid_requests.load(), 0);
    }
}

TEST(nobody_is_starved) {
    World world(1);
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            while (!over) world.request(1, 100);
        });
    }
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 50; ++i) world.request(2);
    over = true;
    join_all(threads);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
    CHECK_EQUAL(world.wrong.load(), 0);
}

TEST(those_who_waited_together_run_together) {
    World world(1);
    constexpr int kWaiting = 6;
    std::vector<std::thread> threads;
    {
        const Residents::Lease held(world.residents, 1);
        for (int i = 0; i < kWaiting; ++i) threads.emplace_back([&, i] { world.request(2 + i % 2, 2000); });
        std::this_thread::sleep_for(std::chrono::milliseconds(200));  // all of them are there
    }
    join_all(threads);
    CHECK_EQUAL(world.fills.load(), 3);  // task 1, and each of the others once
}
