// What goes wrong with engines: plans that are not what their sidecar says, calls that fail, answers that are wrong.

#include <cstring>

#include "check.h"
#include "toy_engines.h"

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
        ToyOptions options = options_of(item.mode);
        options.change = item.change;
        const Plan plan(options);
        const StubCounts before = stub_counts();
        check_refused(item.words, item.words, [&] { plan.open(); });
        CHECK_EQUAL(stub_counts().launches, before.launches);
    }
    CHECK_EQUAL(stub_live(), alive);
}

TEST(a_refit_that_fails_half_way_is_not_kept) {
    const Plan plan;
    Engine engine = plan.open();
    engine.check("birds");
    const std::size_t loaded = stub_counts().deserialised;
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
    for (const char* call : {"cudaMalloc", "cudaHostAlloc", "cudaStreamCreate", "createExecutionContext", "enqueueV3",
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

TEST(options_out_of_range) {
    const Plan plan;
    EngineOptions options = resident(0);
    check_refused("resident", "option resident: expected 1..255, got 0", [&] { plan.open(options); });
    options = {};
    options.contexts = 0;
    check_refused("contexts", "option contexts: expected 1..1024, got 0", [&] { plan.open(options); });
    options = {};
    const WithoutKernels here;
    options.bank = PACKNET_BANK_DEVICE;
    check_refused("bank", "expected kernels that read it on the GPU, got none", [&] { plan.open(options); });
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
