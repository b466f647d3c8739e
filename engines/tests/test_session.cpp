// What an Engine does around TensorRT, with a stand-in for the plan: no GPU takes part in these tests.

#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"
#include "session.h"

namespace {

using packnet::Error;
using packnet::Switch;
using packnet::detail::Batch;
using packnet::detail::LoadedPlan;
using packnet::detail::Session;

/// What happened, and what shall happen, to the stand-ins of one session.
struct World {
    std::atomic<int> loads{0}, contexts{0}, alive{0}, most_alive{0}, fills{0}, fills_amid_requests{0};
    std::atomic<int> running{0}, contexts_after_plan{0};
    std::atomic<bool> next_fill_fails{false}, next_request_fails{false}, plan_is_there{false};
    std::atomic<int> task{0};          // that lies in the one place
    std::atomic<int> milliseconds{0};  // of a request
};

/// Two logits for an image of two numbers: its sum, its sum times the task.
class StandInContext : public LoadedPlan::Context {
public:
    StandInContext(World& world, bool selector) : world_(world), selector_(selector) {
        ++world.contexts;
        world.most_alive = std::max(world.most_alive.load(), ++world.alive);
    }
    ~StandInContext() override {
        --world_.alive;
        world_.contexts_after_plan += !world_.plan_is_there;
    }

    void infer(const Batch& batch, std::size_t classes) override {
        ++world_.running;
        if (world_.milliseconds) std::this_thread::sleep_for(std::chrono::milliseconds(world_.milliseconds));
        const int task = selector_ ? batch.task : world_.task.load();
        for (int i = 0; i < batch.count; ++i) {
            const float sum = batch.images[2 * i] + batch.images[2 * i + 1];
            const float both[] = {sum, sum * static_cast<float>(task)};
            std::copy_n(both, classes, batch.logits + static_cast<std::size_t>(i) * classes);
        }
        --world_.running;
        if (world_.next_request_fails.exchange(false)) throw Error({}, "the request failed");
    }

    void enqueue(const Batch&, void*) override {}

private:
    World& world_;
    const bool selector_;
};

class StandInPlan : public LoadedPlan {
public:
    StandInPlan(World& world, bool selector) : world_(world), selector_(selector) {
        ++world.loads;
        world.plan_is_there = true;
    }
    ~StandInPlan() override { world_.plan_is_there = false; }

    int places() const override { return selector_ ? 0 : 1; }
    void fill(int, int task) override {
        ++world_.fills;
        world_.fills_amid_requests += world_.running != 0;
        world_.task = -1;  // half done
        if (world_.next_fill_fails.exchange(false)) throw Error({}, "the refit failed");
        world_.task = task;
    }
    void finish(int) override {}
    bool spoiled_by_failure() const override { return true; }
    std::unique_ptr<Context> make_context() override { return std::make_unique<StandInContext>(world_, selector_); }

private:
    World& world_;
    const bool selector_;
};

/// Tasks "one" (1 class) and "two" (2 classes) of an engine of 3 logits; images of 2 numbers.
struct Stage {
    World world;
    Session session;

    explicit Stage(Switch mode = Switch::refit, int contexts = 8)
        : session(sidecar(mode), {{"one", 1, {"a"}, {}}, {"two", 2, {"b", "c"}, {}}}, contexts,
                  [this, mode] { return std::make_unique<StandInPlan>(world, mode == Switch::selector); }) {}

    static packnet::Sidecar sidecar(Switch mode) {
        packnet::Sidecar made{};
        made.mode = mode;
        made.batch = {1, 1, 4};
        made.input.channels = 1;
        made.input.height = 1;
        made.input.width = 2;
        made.classes = 3;
        return made;
    }

    std::vector<float> infer(const char* task, const std::vector<float>& images) {
        const auto& wanted = session.find(task);
        std::vector<float> logits(images.size() / 2 * wanted.classes.size());
        session.infer(wanted, images.data(), images.size() / 2, logits.data(), logits.size());
        return logits;
    }
};

using Logits = std::vector<float>;

double milliseconds_of(int threads, const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> all;
    for (int i = 0; i < threads; ++i) all.emplace_back(work);
    for (std::thread& thread : all) thread.join();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST(a_request_carries_its_task) {
    Stage stage;
    CHECK((stage.infer("two", {1, 2, 3, 4}) == Logits{3, 6, 7, 14}));
    CHECK((stage.infer("one", {1, 2, 3, 4}) == Logits{3, 7}));
    CHECK(stage.infer("one", {}).empty());
    CHECK((stage.infer("one", {1, 1, 2, 2, 3, 3, 4, 4, 5, 5}) == Logits{2, 4, 6, 8, 10}));
    CHECK_EQUAL(stage.world.contexts.load(), 1);
    check_refused("unknown task", "one of the plan's: one, two, got 'three'", [&] { stage.session.find("three"); });
}

TEST(logits_have_room_or_nothing_runs) {
    Stage stage;
    const float images[4] = {};
    float logits[3];
    const auto& two = stage.session.find("two");
    check_refused("room", "room for logits: expected 2 times 2 numbers, got 3",
                  [&] { stage.session.infer(two, images, 2, logits, 3); });
    check_refused("more than there are", "room for logits",
                  [&] { stage.session.infer(two, images, ~std::size_t{0} / 2, logits, 3); });
    Session::Lent context(stage.session, false);
    check_refused("of the plan", "expected 1 times 3 numbers, got 2",
                  [&] { context.enqueue(two, images, 1, logits, 2, nullptr); });
    check_refused("too many", "images: expected 1..4 at a time, got 5",
                  [&] { context.enqueue(two, images, 5, logits, 99, nullptr); });
    CHECK_EQUAL(stage.world.contexts.load(), 0);
}

TEST(the_current_task_is_for_requests_without_one) {
    Stage stage;
    CHECK(!stage.session.current());
    stage.session.set_task("two");
    CHECK_EQUAL(stage.session.current()->name, "two");
    stage.infer("one", {1, 1});
    CHECK_EQUAL(stage.session.current()->name, "two");
    Stage fixed(Switch::none);
    CHECK_EQUAL(fixed.session.current()->name, "one");
    check_refused("another task", "--switch refit", [&] { fixed.session.set_task("birds"); });
}

TEST(a_fill_that_fails_loads_the_plan_anew) {
    Stage stage;
    stage.session.set_task("one");
    stage.infer("one", {1, 1});
    stage.world.next_fill_fails = true;
    check_refused("switch", "the refit failed", [&] { stage.session.set_task("two"); });
    CHECK(!stage.session.current());
    CHECK_EQUAL(stage.world.loads.load(), 1);
    CHECK((stage.infer("one", {1, 1}) == Logits{2}));  // whose weights were there before
    CHECK_EQUAL(stage.world.loads.load(), 2);
    CHECK_EQUAL(stage.world.contexts.load(), 2);
    CHECK_EQUAL(stage.world.contexts_after_plan.load(), 0);
}

TEST(a_context_that_failed_is_not_used_again) {
    Stage stage;
    stage.world.next_request_fails = true;
    check_refused("request", "the request failed", [&] { stage.infer("one", {1, 1}); });
    stage.infer("one", {1, 1});
    CHECK_EQUAL(stage.world.contexts.load(), 2);
    CHECK_EQUAL(stage.world.alive.load(), 1);
}

TEST(contexts_are_no_more_than_allowed_and_come_back) {
    Stage stage(Switch::selector, 2);
    stage.world.milliseconds = 1;
    milliseconds_of(6, [&] {
        for (int i = 0; i < 10; ++i) stage.infer(i % 2 ? "one" : "two", {1, 1});
    });
    CHECK(stage.world.most_alive <= 2);
    Session::Lent first(stage.session, false);
    {
        Session::Lent second(stage.session, false);
        check_refused("a third", "at most 2 at a time", [&] { Session::Lent third(stage.session, false); });
        check_refused("a request that would wait for ever", "the option contexts", [&] { stage.infer("one", {1, 1}); });
    }
    CHECK((stage.infer("one", {1, 1}) == Logits{2}));
}

TEST(a_context_is_for_one_thread_at_a_time) {
    Stage stage(Switch::selector);
    stage.world.milliseconds = 200;
    Session::Lent context(stage.session, false);
    const float images[2] = {1, 1};
    const auto& one = stage.session.find("one");
    float logits[1];
    std::thread other([&] { context.infer(one, images, 1, logits, 1); });
    while (!stage.world.running) std::this_thread::yield();
    float mine[1];
    check_refused("a second thread", "one thread at a time", [&] { context.infer(one, images, 1, mine, 1); });
    other.join();
    CHECK_EQUAL(logits[0], 2.0f);
}

// Two threads, two tasks, one engine. Setting a task and then asking for logits is a race by design: here 23 of 50
// answers were the other task's. An answer says whose it is, so that it can be seen; a request that carries its task
// does not take part.
TEST(threads_that_want_different_tasks_get_them) {
    Stage stage;
    std::atomic<int> strangers{0}, wrong{0}, answers{0};
    std::atomic<int> turn{0};
    milliseconds_of(2, [&] {
        const bool is_first = turn++ == 0;
        const char* const mine = is_first ? "one" : "two";
        for (int i = 0; i < 25; ++i, ++answers) {
            stage.session.set_task(mine);
            std::this_thread::yield();
            strangers += stage.session.current()->name != mine;
            wrong += !(stage.infer(mine, {1, 1}) == (is_first ? Logits{2} : Logits{2, 4}));
        }
    });
    std::printf("  of %d answers, set_task and infer: %d of another task; infer with a task: %d\n", answers.load(),
                strangers.load(), wrong.load());
    CHECK_EQUAL(wrong.load(), 0);
    CHECK_EQUAL(stage.world.fills_amid_requests.load(), 0);
}

// 8 threads, 20 requests of 20 ms each: 416 ms, but 2,219 ms with a set_task of the current task before each request,
// when that waited for all that ran.
TEST(setting_the_current_task_costs_nothing) {
    Stage stage;
    stage.world.milliseconds = 20;
    stage.session.set_task("one");
    const double without = milliseconds_of(8, [&] {
        for (int i = 0; i < 20; ++i) stage.infer("one", {1, 1});
    });
    const double with = milliseconds_of(8, [&] {
        for (int i = 0; i < 20; ++i) {
            stage.session.set_task("one");
            stage.infer("one", {1, 1});
        }
    });
    std::printf("  160 requests of 20 ms: %.0f ms, with set_task before each %.0f ms\n", without, with);
    CHECK(with < 1.5 * without);
    CHECK_EQUAL(stage.world.fills.load(), 1);
}
