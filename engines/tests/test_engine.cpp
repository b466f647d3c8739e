// packnet::engine, all of it, on stand-ins for TensorRT and CUDA (stub/): the golden pack's network really runs, late,
// on streams that are threads, from weights that really travel.

#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "check.h"
#include "golden.h"
#include "packnet/deltas.h"
#include "packnet/engine.h"
#include "stub/stub.h"
#include "toy_plans.h"

namespace {

using packnet::Context;
using packnet::Engine;
using packnet::EngineOptions;
using packnet::Precision;
using packnet::Switch;

const Switch kModes[] = {Switch::refit, Switch::bind, Switch::selector};
const char* const kTasks[] = {"shapes", "birds", "flowers"};

/// A copy of the golden pack with a plan beside it.
struct Plan {
    GoldenCopy pack;
    std::filesystem::path path = pack.path / "toy.plan";

    explicit Plan(const ToyOptions& options = {}) { write_toy_plan(path, packnet::open_pack(pack.path), options); }
    explicit Plan(Switch mode) : Plan(of(mode)) {}

    static ToyOptions of(Switch mode) {
        ToyOptions options;
        options.mode = mode;
        return options;
    }

    Engine open(const EngineOptions& options = {}) const { return Engine(path, pack.path, options); }
};

EngineOptions resident(int tasks) {
    EngineOptions options;
    options.resident = tasks;
    return options;
}

struct Case {
    Switch mode;
    EngineOptions options;
};

std::vector<Case> all_cases() {
    return {{Switch::refit, {}}, {Switch::bind, {}}, {Switch::bind, resident(2)}, {Switch::selector, {}}};
}

std::vector<float> probes() { return packnet::probe_batch(packnet::open_pack(golden_path()).input); }

/// What the training framework answered to the probe images.
const std::vector<float>& expected(const std::string& task) {
    static const packnet::Pack pack = packnet::open_pack(golden_path());
    static const packnet::Deltas deltas(pack);
    static const std::map<std::string, std::vector<float>> all = [] {
        std::map<std::string, std::vector<float>> logits;
        for (const char* name : kTasks) logits[name] = deltas.content(pack.task(name).index).probe_logits.values;
        return logits;
    }();
    return all.at(task);
}

bool close(const float* got, const float* wanted, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        if (!(std::abs(got[i] - wanted[i]) < 1e-4f)) return false;
    }
    return true;
}

bool is_answer(const std::vector<float>& got, const std::string& task) {
    return got.size() == expected(task).size() && close(got.data(), expected(task).data(), got.size());
}

/// Streams that run `microseconds` late, for as long as this lives.
struct Late {
    explicit Late(int microseconds) { stub_delay(microseconds); }
    ~Late() { stub_delay(0); }
};

/// What an application brings: memory on the GPU and a stream of its own.
struct Mine {
    float* images = nullptr;
    float* logits = nullptr;
    cudaStream_t stream = nullptr;
    std::size_t room;

    Mine(const std::vector<float>& pixels, std::size_t width) : room(packnet::kProbeImages * width) {
        void* address = nullptr;
        cudaMalloc(&address, pixels.size() * sizeof(float));
        images = static_cast<float*>(address);
        cudaMalloc(&address, room * sizeof(float));
        logits = static_cast<float*>(address);
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaMemcpyAsync(images, pixels.data(), pixels.size() * sizeof(float), cudaMemcpyDefault, stream);
        cudaStreamSynchronize(stream);
    }
    ~Mine() {
        cudaStreamDestroy(stream);
        cudaFree(images);
        cudaFree(logits);
    }

    /// The logits as they are when the stream has come so far, those of the task's classes.
    std::vector<float> wait(std::size_t classes) const {
        const std::size_t width = room / packnet::kProbeImages;
        std::vector<float> all(room), cut;
        cudaMemcpyAsync(all.data(), logits, room * sizeof(float), cudaMemcpyDefault, stream);
        cudaStreamSynchronize(stream);
        for (std::size_t i = 0; i < packnet::kProbeImages; ++i) {
            cut.insert(cut.end(), all.begin() + static_cast<std::ptrdiff_t>(i * width),
                       all.begin() + static_cast<std::ptrdiff_t>(i * width + classes));
        }
        return cut;
    }
};

void in_threads(int count, const std::function<void(int)>& work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

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

// -- requests that carry their task -----------------------------------------------------------------------------------

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
    const int copies = stub_counts().copies;
    for (int i = 0; i < 5; ++i) run(i % 2 ? "shapes" : "birds");
    CHECK_EQUAL(stub_counts().copies - copies, 10);  // images and logits, no weights
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
        CHECK_EQUAL(stub_counts().graph_launches - before.graph_launches, 3);
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

// -- what goes wrong --------------------------------------------------------------------------------------------------

TEST(shapes_are_checked_before_anything_runs) {
    const struct {
        const char* words;
        Switch mode;
        std::function<void(ToyPlan&)> change;
    } cases[] = {
        {"tensor 'logits': expected an output of TensorRT's type 0 [-1, 5], as its sidecar says", Switch::refit,
         [](ToyPlan& plan) { plan.logits = 6; }},
        {"tensor 'images': expected an input of TensorRT's type 0 [-1, 3, 17, 19]", Switch::selector,
         [](ToyPlan& plan) { plan.images[1] = 18; }},
        {"tensor 'conv1.weight': expected an input of TensorRT's type 0 [5, 3, 3, 3]", Switch::bind,
         [](ToyPlan& plan) { plan.weights[0].shape = {5, 3, 3, 4}; }},
        {"tensor 'conv1.weight'", Switch::bind, [](ToyPlan& plan) { plan.weights[0].type = "fp16"; }},
        {"'fire.squeeze.weight', got none such", Switch::bind,
         [](ToyPlan& plan) { plan.weights.erase(plan.weights.begin() + 1); }},
        {"got 'task' as well", Switch::bind, [](ToyPlan& plan) { plan.has_task = true; }},
        {"batches: expected [1, 8], as its sidecar says, got [2, 8]", Switch::bind,
         [](ToyPlan& plan) { plan.batch[0] = 2; }},
        {"weight 'conv1.weight': expected 180 of TensorRT's type 0, got 135", Switch::refit,
         [](ToyPlan& plan) { plan.weights[0].shape = {5, 3, 3, 4}; }},
        {"expected refittable, got none", Switch::refit, [](ToyPlan& plan) { plan.weights[0].source = "inside"; }},
    };
    const int alive = stub_live();
    for (const auto& item : cases) {
        ToyOptions options = Plan::of(item.mode);
        options.change = item.change;
        const Plan plan(options);
        const StubCounts before = stub_counts();
        check_refused(item.words, item.words, [&] { plan.open(); });
        CHECK_EQUAL(stub_counts().launches, before.launches);
    }
    CHECK_EQUAL(stub_live(), alive);
}

TEST(a_plan_of_one_batch_size) {
    ToyOptions options;
    options.batch = {4, 4, 4};
    Plan(options).open().check("birds");
}

TEST(a_refit_that_fails_half_way_is_not_kept) {
    const Plan plan;
    Engine engine = plan.open();
    engine.check("birds");
    const int loaded = stub_counts().deserialised;
    stub_fail("refit");
    try {
        engine.set_task("flowers");
        CHECK(false);
    } catch (const packnet::EnvironmentFault& fault) {
        CHECK_EQUAL(fault.got(), "IRefitter::refitCudaEngineAsync: it failed half way");
    }
    CHECK_EQUAL(engine.task(), "");
    engine.check("birds");  // whose weights were there before
    CHECK_EQUAL(stub_counts().deserialised, loaded + 1);
}

TEST(what_fails_says_so_and_leaves_nothing) {
    const int alive = stub_live();
    for (const char* call : {"cudaMalloc", "cudaMallocHost", "cudaStreamCreate", "createExecutionContext", "enqueueV3",
                             "cudaMemcpyAsync", "refit", "cudaStreamSynchronize"}) {
        for (int nth = 1; nth < 12; ++nth) {
            stub_fail(call, nth);
            try {
                const Plan plan;
                Engine engine = plan.open();
                engine.check("birds");
                engine.check("flowers");
            } catch (const packnet::EnvironmentFault&) {
                continue;
            }
            CHECK(nth > 1);
            break;
        }
        stub_heal();
        CHECK_EQUAL(stub_live(), alive);
    }
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

TEST(options_out_of_range) {
    const Plan plan;
    EngineOptions options = resident(0);
    check_refused("resident", "option resident: expected 1..255, got 0", [&] { plan.open(options); });
    options = {};
    options.contexts = 0;
    check_refused("contexts", "option contexts: expected 1..1024, got 0", [&] { plan.open(options); });
    options = {};
    options.bank = PACKNET_BANK_DEVICE;
    check_refused("bank", "expected kernels that mask it on the GPU, got none", [&] { plan.open(options); });
}

TEST(an_engine_that_computes_something_else_fails_its_check) {
    ToyOptions options;
    options.change = [](ToyPlan& plan) { plan.convs[2].pad = 0; };
    const Plan plan(options);
    Engine engine = plan.open();
    try {
        engine.check("birds");
    } catch (const packnet::CheckFailed& failure) {
        CHECK(std::strstr(failure.what(), "toy.plan: logits of task birds: expected those of the pack, within"));
        return;
    }
    CHECK(false);
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

// -- the C interface --------------------------------------------------------------------------------------------------

TEST(errors_in_c) {
    const Plan plan;
    packnet_engine* engine = nullptr;
    CHECK_EQUAL(packnet_engine_open("none.plan", plan.pack.path.c_str(), nullptr, &engine), PACKNET_ARTEFACT);
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
