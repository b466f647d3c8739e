// Requests that carry their task, from any thread; contexts with a stream and memory of one's own; CUDA graphs.

#include <atomic>
#include <chrono>

#include "check.h"
#include "toy_engines.h"

TEST(threads_that_want_different_tasks_get_them) {
    const std::vector<float> images = probes();
    for (const Case& item : all_cases()) {
        const Plan plan(item.mode);
        Engine engine = plan.open(item.options);
        std::atomic<int> wrong{0}, unnamed{0};
        in_threads(4, [&](int number) {
            for (int i = 0; i < 15; ++i) {
                const std::string task = kTasks[(number + i % 2) % 3];
                std::vector<float> logits;
                wrong += engine.infer(task, images.data(), packnet::kProbeImages, logits).task != task;
                wrong += !is_answer(logits, task);
                engine.set_task(task);  // others do the same: whose logits come is only known from the answer
                unnamed += !is_answer(logits, engine.infer(images.data(), packnet::kProbeImages, logits).task);
            }
        });
        CHECK_EQUAL(wrong.load(), 0);
        CHECK_EQUAL(unnamed.load(), 0);
    }
}

TEST(resident_tasks_are_not_brought_again) {
    const Plan plan(Switch::bind);
    Engine engine = plan.open(resident(2));
    const std::vector<float> images = probes();
    std::vector<float> logits;
    const auto run = [&](const char* task) {
        engine.infer(task, images.data(), packnet::kProbeImages, logits);
        CHECK(is_answer(logits, task));
    };
    run("shapes");
    run("birds");
    const std::size_t copies = stub_counts().copies;
    for (int i = 0; i < 5; ++i) run(i % 2 ? "shapes" : "birds");
    CHECK_EQUAL(stub_counts().copies - copies, 10u);  // images and logits, no weights
}

TEST(the_current_task) {
    const Plan plan;
    Engine engine = plan.open();
    std::vector<float> logits;
    CHECK_EQUAL(engine.task(), "");
    check_refused("none", "expected a task, set or named, got none yet",
                  [&] { engine.infer(probes().data(), 1, logits); });
    engine.set_task("birds");
    CHECK_EQUAL(engine.infer(probes().data(), packnet::kProbeImages, logits).task, "birds");
    CHECK(is_answer(logits, "birds"));
}

// -- your own stream and memory ---------------------------------------------------------------------------------------

TEST(a_context_enqueues_and_returns) {
    for (const Case& item : all_cases()) {
        const Plan plan(item.mode);
        Engine engine = plan.open(item.options);
        const Mine mine(probes(), 5);
        Context context(engine);
        context.enqueue("birds", mine.images, packnet::kProbeImages, mine.logits, mine.room, mine.stream);
        CHECK(is_answer(mine.wait(2), "birds"));
        const Late late(100'000);
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < 3; ++i)
            context.enqueue("birds", mine.images, packnet::kProbeImages, mine.logits, mine.room, mine.stream);
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::milliseconds(100));  // 3 times 100 ms and more
        stub_delay(0);
        CHECK(is_answer(mine.wait(2), "birds"));
    }
}

TEST(weights_stay_while_a_stream_has_not_come_so_far) {
    for (const Case& item : all_cases()) {
        const Plan plan(item.mode);
        Engine engine = plan.open(item.options);
        const Mine first(probes(), 5), second(probes(), 5);
        Context one(engine), other(engine);
        const Late late(3000);
        for (int i = 0; i < 3; ++i) {
            one.enqueue("birds", first.images, packnet::kProbeImages, first.logits, first.room, first.stream);
            other.enqueue("flowers", second.images, packnet::kProbeImages, second.logits, second.room, second.stream);
            one.enqueue("shapes", first.images, packnet::kProbeImages, first.logits, first.room, second.stream);
            CHECK(is_answer(second.wait(5), "flowers"));
            cudaStreamSynchronize(first.stream);
            CHECK(is_answer(first.wait(3), "shapes"));
        }
    }
}

TEST(contexts_of_many_threads) {
    const std::vector<float> images = probes();
    for (const Case& item : all_cases()) {
        const Plan plan(item.mode);
        Engine engine = plan.open(item.options);
        std::atomic<int> wrong{0};
        in_threads(4, [&](int number) {
            const Mine mine(images, 5);
            Context context(engine);
            for (int i = 0; i < 10; ++i) {
                const std::string task = kTasks[(number + i) % 3];
                context.enqueue(task, mine.images, packnet::kProbeImages, mine.logits, mine.room, mine.stream);
                wrong += !is_answer(mine.wait(expected(task).size() / packnet::kProbeImages), task);
            }
        });
        CHECK_EQUAL(wrong.load(), 0);
    }
}

TEST(a_context_may_outlive_its_engine) {
    const int alive = stub_live();
    {
        const Plan plan;
        auto engine = std::make_unique<Engine>(plan.open());
        Context context(*engine);
        engine.reset();
        std::vector<float> logits(20);
        context.infer("flowers", probes().data(), packnet::kProbeImages, logits.data(), logits.size());
        CHECK(is_answer(logits, "flowers"));
    }
    CHECK_EQUAL(stub_live(), alive);
}

TEST(what_a_context_refuses) {
    const Plan plan;
    EngineOptions options;
    options.contexts = 1;
    Engine engine = plan.open(options);
    const Mine mine(probes(), 5);
    Context context(engine);
    const auto refused = [&](const char* words, const float* images, std::size_t count, std::size_t room) {
        check_refused(words, words, [&] { context.enqueue("birds", images, count, mine.logits, room, mine.stream); });
    };
    refused("images: expected 1..8 at a time, got 9", mine.images, 9, 99);
    refused("room for logits: expected 4 times 5 numbers, got 19", mine.images, 4, 19);
    refused("expected a multiple of 256 on the GPU, got 4 beyond one", mine.images + 1, 4, 20);
    refused("expected a multiple of 256 on the GPU, got null", nullptr, 4, 20);
    check_refused("a second", "at most 1 at a time, got one more", [&] { Context second(engine); });
    context.enqueue("birds", mine.images, 4, mine.logits, 20, mine.stream);
    CHECK(is_answer(mine.wait(2), "birds"));
}

// -- CUDA graphs ------------------------------------------------------------------------------------------------------

TEST(a_batch_that_comes_again_is_replayed) {
    EngineOptions options;
    options.cuda_graphs = true;
    for (Switch mode : kModes) {
        const Plan plan(mode);
        Engine engine = plan.open(options);
        const StubCounts before = stub_counts();
        for (const char* task : {"birds", "birds", "birds", "flowers", "flowers", "birds"}) {
            std::vector<float> logits;
            engine.infer(task, probes().data(), packnet::kProbeImages, logits);
            CHECK(is_answer(logits, task));
        }
        CHECK_EQUAL(stub_counts().graph_launches - before.graph_launches, 3u);
        std::vector<float> logits;
        engine.infer("birds", probes().data(), 2, logits);  // another shape
        CHECK(close(logits.data(), expected("birds").data(), 4));
    }
}

TEST(what_cannot_be_captured_is_run) {
    EngineOptions options;
    options.cuda_graphs = true;
    for (const char* call : {"capture", "cudaGraphInstantiate"}) {
        const Plan plan(Switch::bind);
        Engine engine = plan.open(options);
        std::vector<std::string> heard;
        packnet::set_listener([&](packnet_severity severity, const std::string& line) {
            if (severity == PACKNET_WARNING) heard.push_back(line);
        });
        stub_fail(call);
        for (int i = 0; i < 5; ++i) engine.check("birds");
        packnet::set_listener(nullptr);
        CHECK_EQUAL(heard.size(), std::size_t{1});
        CHECK(heard[0].find("without CUDA graphs: ") == 0);
    }
}
