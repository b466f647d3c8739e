// What an Engine does around TensorRT, with a stand-in for it: no GPU takes part in these tests.

#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"
#include "session.h"

namespace {

using packnet::Error;
using packnet::detail::LoadedPlan;
using packnet::detail::Session;

/// What happened, and what shall happen, to the stand-ins of one session.
struct World {
    std::atomic<int> loads{0}, contexts{0}, running{0}, switches_amid_requests{0}, contexts_after_plan{0};
    std::atomic<bool> next_switch_fails{false}, next_request_fails{false};
    std::atomic<bool> plan_is_there{false};
    std::vector<int> batches;  // of every request, in tests of one thread
    std::atomic<int> task{0};
    bool slow = false;
    bool record = true;
};

/// Three logits for an image of two numbers: its sum, its sum times the task, -1 as a column that is of no class.
class StandInContext : public LoadedPlan::Context {
public:
    explicit StandInContext(World& world) : world_(world) { ++world.contexts; }
    ~StandInContext() override { world_.contexts_after_plan += !world_.plan_is_there; }

    void infer(const float* images, int count, float* logits) override {
        ++world_.running;
        if (world_.record) world_.batches.push_back(count);
        if (world_.slow) std::this_thread::sleep_for(std::chrono::microseconds(200));
        const int task = world_.task;
        for (int i = 0; i < count; ++i) {
            const float sum = images[2 * i] + images[2 * i + 1];
            logits[3 * i] = sum;
            logits[3 * i + 1] = sum * static_cast<float>(task);
            logits[3 * i + 2] = -1;
        }
        --world_.running;
        if (world_.next_request_fails.exchange(false)) throw Error({}, "the request failed");
    }

private:
    World& world_;
};

class StandInPlan : public LoadedPlan {
public:
    explicit StandInPlan(World& world) : world_(world) {
        ++world.loads;
        world.plan_is_there = true;
    }
    ~StandInPlan() override { world_.plan_is_there = false; }

    void become(int task) override {
        world_.switches_amid_requests += world_.running != 0;
        world_.task = -1;  // half done
        if (world_.slow) std::this_thread::sleep_for(std::chrono::microseconds(200));
        world_.switches_amid_requests += world_.running != 0;
        if (world_.next_switch_fails.exchange(false)) throw Error({}, "the refit failed");
        world_.task = task;
    }

    std::unique_ptr<Context> make_context() override { return std::make_unique<StandInContext>(world_); }

private:
    World& world_;
};

/// Tasks "one" (1 class) and "two" (2 classes) of an engine of 3 logits; images of 2 numbers.
struct Stage {
    World world;
    Session session;

    explicit Stage(packnet::BatchRange batch = {1, 1, 4}, packnet::Switch mode = packnet::Switch::refit)
        : session(sidecar(batch, mode), {{"one", 1, {"a"}, {}}, {"two", 2, {"b", "c"}, {}}},
                  [this] { return std::make_unique<StandInPlan>(world); }) {}

    static packnet::Sidecar sidecar(packnet::BatchRange batch, packnet::Switch mode) {
        packnet::Sidecar made{};
        made.mode = mode;
        made.batch = batch;
        made.input.channels = 1;
        made.input.height = 1;
        made.input.width = 2;
        made.classes = 3;
        return made;
    }

    std::vector<float> infer(const std::vector<float>& images) {
        return session.infer(images.data(), images.size() / 2);
    }
};

}  // namespace

TEST(logits_are_cut_to_the_tasks_classes) {
    Stage stage;
    CHECK_EQUAL(stage.session.task(), "");
    stage.session.set_task("two");
    CHECK_EQUAL(stage.session.task(), "two");
    CHECK((stage.infer({1, 2, 3, 4}) == std::vector<float>{3, 6, 7, 14}));
    stage.session.set_task("one");
    CHECK((stage.infer({1, 2, 3, 4}) == std::vector<float>{3, 7}));
    CHECK(stage.infer({}).empty());
}

TEST(requests_of_any_size_are_cut_and_filled_up) {
    Stage stage({2, 2, 3});
    stage.session.set_task("one");
    CHECK((stage.infer({1, 1}) == std::vector<float>{2}));
    CHECK((stage.infer({1, 1, 2, 2, 3, 3, 4, 4}) == std::vector<float>{2, 4, 6, 8}));
    CHECK((stage.world.batches == std::vector<int>{2, 3, 2}));
}

TEST(one_thread_makes_one_context) {
    Stage stage;
    for (const char* task : {"one", "two", "two", "one"}) {
        stage.session.set_task(task);
        stage.infer({1, 1});
    }
    CHECK_EQUAL(stage.world.contexts.load(), 1);
}

TEST(no_task_no_logits) {
    Stage stage;
    check_refused("before set_task", "expected a task, set by set_task", [&] { stage.infer({1, 1}); });
    check_refused("unknown task", "one of the plan's: one, two, got 'three'", [&] { stage.session.set_task("three"); });
}

TEST(a_plan_of_one_task_is_it_at_once) {
    Stage stage({1, 1, 4}, packnet::Switch::none);
    CHECK_EQUAL(stage.session.task(), "one");
    check_refused("another task", "--switch refit", [&] { stage.session.set_task("birds"); });
}

TEST(a_switch_that_fails_leaves_no_task_and_the_next_loads_anew) {
    Stage stage;
    stage.session.set_task("one");
    stage.infer({1, 1});
    stage.world.next_switch_fails = true;
    check_refused("switch", "the refit failed", [&] { stage.session.set_task("two"); });
    CHECK_EQUAL(stage.session.task(), "");
    check_refused("request", "none since a switch failed", [&] { stage.infer({1, 1}); });
    CHECK_EQUAL(stage.world.loads.load(), 1);
    stage.session.set_task("one");  // the task of before the failure, which the weights are no more
    CHECK((stage.infer({1, 1}) == std::vector<float>{2}));
    CHECK_EQUAL(stage.world.loads.load(), 2);
    CHECK_EQUAL(stage.world.contexts.load(), 2);
    CHECK_EQUAL(stage.world.contexts_after_plan.load(), 0);
}

TEST(a_context_that_failed_is_not_used_again) {
    Stage stage;
    stage.session.set_task("one");
    stage.world.next_request_fails = true;
    check_refused("request", "the request failed", [&] { stage.infer({1, 1}); });
    stage.infer({1, 1});
    CHECK_EQUAL(stage.world.contexts.load(), 2);
}

TEST(switches_wait_for_requests_and_are_not_starved) {
    Stage stage;
    stage.world.slow = true;
    stage.world.record = false;
    stage.session.set_task("one");
    std::atomic<bool> over{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            while (!over) {
                const std::vector<float> logits = stage.infer({1, 1});
                // One class: task one's. Two: task two's, and no other's, nor what a half-done switch leaves.
                wrong += !(logits == std::vector<float>{2} || logits == std::vector<float>{2, 4});
            }
        });
    }
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i) stage.session.set_task(i % 2 ? "one" : "two");
    over = true;
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(wrong.load(), 0);
    CHECK_EQUAL(stage.world.switches_amid_requests.load(), 0);
    CHECK(stage.world.contexts <= 4);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}
