// What a switch launches, reads, writes and gives to TensorRT, and the memory of the GPU that weights take. That the
// weights are right is asked in passing; test_engine_weights.py asks it of every pair of tasks, by the bit.

#include "check.h"
#include "placement.h"
#include "toy_engines.h"

using packnet::detail::EngineWeights;
using packnet::detail::Placement;
using packnet::detail::Sizes;

namespace {

/// What happened while something was done.
StubCounts while_doing(const std::function<void()>& work) {
    const StubCounts before = stub_counts();
    work();
    return stub_counts() - before;
}

/// Every weight of every task, as a plan that holds them all has them.
ToyPlan all_weights() {
    ToyPlan all;
    ToyOptions options = options_of(Switch::selector);
    options.change = [&](ToyPlan& plan) { all = plan; };
    const Plan plan(options);
    return all;
}

}  // namespace

TEST(a_switch_is_one_launch_over_what_differs) {
    for (const EngineOptions& options : {EngineOptions(), bank_on_device()}) {
        const Plan plan(Switch::bind);
        Engine engine = plan.open(options);
        for (const char* source : kTasks) {
            for (const char* target : kTasks) {
                if (source == target) continue;
                engine.set_task(source);
                const StubCounts there = while_doing([&] { engine.set_task(target); });
                engine.check(target);
                const StubCounts back = while_doing([&] { engine.set_task(source); });
                CHECK_EQUAL(there.switches, 1u);
                CHECK_EQUAL(there.copies, 1u);  // what a task brings whole
                CHECK_EQUAL(there.written, back.written);
                CHECK_EQUAL(there.values + back.values, 4 * there.written);  // one of the two goes down, and reads none
                CHECK(there.values == 0 || back.values == 0);
                CHECK_EQUAL(there.positions, back.positions);
            }
        }
    }
}

TEST(the_task_that_is_there_costs_nothing) {
    for (Switch mode : {Switch::bind, Switch::refit}) {
        const Plan plan(mode);
        Engine engine = plan.open();
        engine.set_task("birds");
        const StubCounts again = while_doing([&] { engine.set_task("birds"); });
        CHECK_EQUAL(again.switches + again.copies + again.refits, 0u);
    }
}

TEST(a_refit_gives_what_differs) {
    const ToyPlan all = all_weights();
    const Plan plan;
    Engine engine = plan.open();
    const StubCounts first = while_doing([&] { engine.set_task("shapes"); });
    CHECK_EQUAL(first.refitted, all.weights.size());
    CHECK_EQUAL(first.unvalidated, 1u);  // TensorRT has looked at all values once
    for (std::size_t source = 0; source < 3; ++source) {
        for (std::size_t target = 0; target < 3; ++target) {
            if (source == target) continue;
            engine.set_task(kTasks[source]);
            const StubCounts counts = while_doing([&] { engine.set_task(kTasks[target]); });
            std::size_t other = 0;
            for (const ToyWeight& weight : all.weights) other += weight.values[source] != weight.values[target];
            CHECK(0 < other && other < all.weights.size());
            CHECK_EQUAL(counts.refitted, other);
            CHECK_EQUAL(counts.unvalidated, 0u);
            engine.check(kTasks[target]);
        }
    }
}

TEST(a_weight_that_is_larger_than_the_buffer_is_refitted_from_the_host) {
    for (const EngineOptions& options : {EngineOptions(), bank_on_device()}) {
        const Plan plan;
        Engine engine = plan.open(options);
        const Late late(2000);  // what the kernels write there comes late
        const StubCounts counts = while_doing([&] {
            for (const char* task : {"flowers", "shapes", "birds", "flowers"}) engine.check(task);
        });
        CHECK_EQUAL(counts.refitted_from_host > 0, options.bank == PACKNET_BANK_HOST);
        CHECK(counts.refitted_from_host < counts.refitted);
    }
}

TEST(weights_that_tensorrt_has_merged_go_together) {
    ToyOptions options;
    options.change = [](ToyPlan& plan) {
        plan.merged = {{"conv1.weight", "norm.scale"}, {"norm.scale", "norm.shift"}, {"head.weight", "head.bias"}};
    };
    const Plan plan(options);
    Engine engine = plan.open();
    for (const char* task : {"flowers", "shapes", "birds", "flowers"}) engine.check(task);
}

TEST(a_switch_that_failed_half_way_is_done_from_scratch) {
    const Plan plan(Switch::bind);
    Engine engine = plan.open();
    engine.check("flowers");
    stub_fail("cudaMemcpyAsync");  // behind the launch: what the task brings whole
    check_refused("failed", "CUDA, a copy between host and GPU", [&] { engine.set_task("shapes"); });
    for (const char* task : {"flowers", "shapes", "birds"}) engine.check(task);
}

TEST(without_kernels_the_host_switches) {
    const WithoutKernels here;
    for (Switch mode : {Switch::bind, Switch::refit}) {
        const Plan plan(mode);
        Engine engine = plan.open();
        const StubCounts counts = while_doing([&] {
            for (const char* task : {"flowers", "shapes", "birds", "flowers"}) engine.check(task);
        });
        CHECK_EQUAL(counts.switches, 0u);
    }
}

TEST(the_gpus_memory_is_what_the_formula_says) {
    for (Switch mode : {Switch::bind, Switch::refit}) {
        for (const bool on_device : {false, true}) {
            for (const int tasks : {1, 2}) {
                if (mode == Switch::refit && tasks > 1) continue;
                const Plan plan(mode);
                const EngineWeights weights = packnet::detail::engine_weights(
                    packnet::Deltas(packnet::open_pack(plan.pack.path)), packnet::read_sidecar(plan.path), 1);
                const Sizes sizes = packnet::detail::sizes_of(weights);
                const Placement placement = packnet::detail::place(sizes, mode, on_device);
                const auto of = [&](bool there, std::size_t bytes) { return there ? bytes : 0; };
                const std::size_t engines =
                    mode == Switch::refit ? sizes.changing : static_cast<std::size_t>(tasks) * weights.layout.bytes();
                EngineOptions options = resident(tasks);
                options.bank = on_device ? PACKNET_BANK_DEVICE : PACKNET_BANK_HOST;
                const std::size_t before = stub_device_bytes();
                const Engine engine = plan.open(options);
                CHECK_EQUAL(stub_device_bytes() - before, sizes.fixed + engines + placement.scratch + sizes.counts +
                                                              of(placement.own, sizes.own) +
                                                              of(placement.values, weights.bank.values.size()) +
                                                              of(placement.positions, sizes.positions));
            }
        }
    }
}
