// packnet.h: statuses, and the last error of each thread. What it does is engine.h's, which is a layer over it.

#include <cstddef>
#include <string>
#include <thread>

#include "check.h"
#include "toy_engines.h"

TEST(errors_in_c) {
    const Plan plan;
    packnet_engine* engine = nullptr;
    CHECK_EQUAL(packnet_engine_open("none.plan", plan.pack.path.c_str(), nullptr, &engine), PACKNET_ENVIRONMENT);
    CHECK(engine == nullptr);
    CHECK_EQUAL(std::string(packnet_last_error()->file), "none.plan.json");
    CHECK_EQUAL(packnet_engine_open(plan.path.c_str(), plan.pack.path.c_str(), nullptr, &engine), PACKNET_OK);
    CHECK_EQUAL(packnet_set_task(engine, "cars"), PACKNET_USAGE);
    CHECK_EQUAL(std::string(packnet_last_error()->got), "'cars'");
    std::thread([] { CHECK_EQUAL(packnet_last_error()->status, PACKNET_OK); }).join();  // it is the thread's own
    CHECK_EQUAL(packnet_set_task(engine, nullptr), PACKNET_USAGE);
    CHECK_EQUAL(std::string(packnet_last_error()->line), "task: expected an address, got null");
    CHECK_EQUAL(packnet_infer(engine, "birds", nullptr, 1, nullptr, 2, nullptr), PACKNET_USAGE);
    CHECK_EQUAL(std::string(packnet_last_error()->subject), "images");
    CHECK_EQUAL(packnet_class_count(engine, "cars"), std::size_t{0});
    CHECK(packnet_class_name(engine, "birds", 2) == nullptr);
    CHECK(packnet_task_name(engine, 3) == nullptr);
    stub_fail("enqueueV3");
    CHECK_EQUAL(packnet_check(engine, "birds", nullptr), PACKNET_ENVIRONMENT);
    packnet_engine_close(engine);
    packnet_engine_close(nullptr);
    packnet_context_destroy(nullptr);
    CHECK_EQUAL(packnet_infer(nullptr, "birds", nullptr, 0, nullptr, 0, nullptr), PACKNET_USAGE);
    CHECK_EQUAL(packnet_context_create(nullptr, nullptr), PACKNET_USAGE);

    packnet_options options;
    packnet_options_init(&options);
    options.size += 4;
    CHECK_EQUAL(packnet_engine_open(plan.path.c_str(), plan.pack.path.c_str(), &options, &engine), PACKNET_USAGE);
    options.size = offsetof(packnet_options, resident);  // as an application built with an older header has it
    options.device = 7;
    CHECK_EQUAL(packnet_engine_open(plan.path.c_str(), plan.pack.path.c_str(), &options, &engine), PACKNET_ENVIRONMENT);
    CHECK_EQUAL(std::string(packnet_backend_version()), "10.13.3.9");
}
