// packnet::engine, all of it, on stand-ins for TensorRT and CUDA (stub/): the golden pack's network really runs, late,
// on streams that are threads, from weights that really travel.

#include <atomic>

#include "check.h"
#include "toy_engines.h"

TEST(every_task_gives_the_packs_logits) {
    const int alive = stub_live();
    for (Precision precision : {Precision::fp32, Precision::fp16, Precision::bf16}) {
        for (const Case& item : all_cases()) {
            ToyOptions options;
            options.mode = item.mode;
            options.precision = precision;
            options.classes = 7;  // room for more than any task has
            const Plan plan(options);
            Engine engine = plan.open(item.options);
            CHECK((engine.tasks() == std::vector<std::string>{"shapes", "birds", "flowers"}));
            for (const char* task : {"flowers", "shapes", "birds", "flowers"}) {
                const packnet::Difference difference = engine.check(task);
                CHECK(difference.scale > 0 && difference.largest <= difference.allowed);
            }
        }
    }
    CHECK_EQUAL(stub_live(), alive);
}

TEST(a_plan_of_one_task) {
    ToyOptions options;
    options.mode = Switch::none;
    options.task = 3;
    const Plan plan(options);
    Engine engine = plan.open();
    CHECK_EQUAL(engine.task(), "flowers");
    engine.check("flowers");
    std::vector<float> logits;
    CHECK_EQUAL(engine.infer(probes().data(), packnet::kProbeImages, logits).task, "flowers");
    CHECK(is_answer(logits, "flowers"));
    check_refused("another", "expected one of the plan's: flowers, got 'birds'", [&] { engine.set_task("birds"); });
}

TEST(tasks_that_came_after_the_plan) {
    ToyOptions options;
    options.built_from = 1;
    for (Switch mode : {Switch::refit, Switch::bind}) {
        options.mode = mode;
        Plan(options).open().check("flowers");
    }
}

TEST(requests_of_any_size) {
    ToyOptions options;
    options.batch = {2, 2, 3};
    const Plan plan(options);
    Engine engine = plan.open();
    const std::vector<float> one = probes();
    std::vector<float> images;
    for (int i = 0; i < 2; ++i) images.insert(images.end(), one.begin(), one.end());
    for (std::size_t count : {0, 1, 2, 3, 4, 7, 8}) {
        std::vector<float> logits;
        const packnet::Answer answer = engine.infer("flowers", images.data(), count, logits);
        CHECK_EQUAL(answer.task, "flowers");
        CHECK_EQUAL(answer.classes, std::size_t{5});
        CHECK_EQUAL(logits.size(), count * 5);
        for (std::size_t i = 0; i < count; ++i) CHECK(close(&logits[i * 5], &expected("flowers")[i % 4 * 5], 5));
    }
}

TEST(what_is_known_of_tasks) {
    const Plan plan;
    const Engine engine = plan.open();
    CHECK((engine.class_names("birds") == std::vector<std::string>{"Rotkehlchen", "Mönchsgrasmücke"}));
    const packnet::InputSpec input = engine.input("flowers");
    CHECK(input.framing == packnet::Framing::pad && input.fill == 128 && input.boxes && !input.exif_orientation);
    CHECK_EQUAL(input.mean[2], 0.5f);
    CHECK_EQUAL(engine.facts().most_batch, 8);
    CHECK_EQUAL(engine.image_size(), std::size_t{3 * 17 * 19});
    check_refused("unknown", "got 'cars'", [&] { engine.class_names("cars"); });
}

TEST(a_plan_of_one_batch_size) {
    ToyOptions options;
    options.batch = {4, 4, 4};
    Plan(options).open().check("birds");
}

TEST(another_gpu) {
    const Plan plan;
    EngineOptions options;
    options.device = 1;
    Engine engine = plan.open(options);
    int device = -1;
    cudaGetDevice(&device);
    CHECK_EQUAL(device, 0);  // the thread's is what it was
    in_threads(2, [&](int number) { engine.check(kTasks[number]); });
    options.device = 2;
    check_refused("no such GPU", "option device): expected 0..1, got 2", [&] { plan.open(options); });
    stub_fail("cudaGetDeviceCount");
    check_refused("no GPU", "expected an NVIDIA GPU and its driver, got no CUDA-capable device", [&] { plan.open(); });
}

TEST(the_logger_outlives_every_engine) {
    const Plan plan;
    std::atomic<int> heard{0};
    {
        const Engine engine = plan.open();
    }
    packnet::set_listener(
        [&](packnet_severity severity, const std::string&) { heard += severity == PACKNET_INFORMATION; });
    {
        const Engine engine = plan.open();
    }
    packnet::set_listener(nullptr);
    {
        const Engine engine = plan.open();
    }
    CHECK_EQUAL(heard.load(), 1);
    write_file(plan.path, "no plan");
    check_refused("damaged", "size in bytes", [&] { plan.open(); });
}
