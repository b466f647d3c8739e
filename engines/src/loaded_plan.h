/// @file
/// A plan on the GPU: the little of TensorRT and CUDA that a session needs, and that its tests stand in for.
#pragma once

#include <cstddef>
#include <memory>

namespace packnet::detail {

/// Images of one task, at most the plan's largest batch of them.
struct Batch {
    int task;             // its index in the pack
    int place;            // where its weights lie
    const float* images;  // [count, channels, height, width]
    int count;
    float* logits;
};

class LoadedPlan {
public:
    virtual ~LoadedPlan() = default;

    /// How many tasks' weights can lie in it at once; 0 where all of them do from the start.
    virtual int places() const = 0;

    /// Put a task's weights into a place: what is enqueued there from now on runs as that task. It waits, here or on
    /// the GPU, for what was enqueued on the place before. Called for a place by one thread at a time, while no request
    /// begins there.
    /// @throws Error  it failed, perhaps half way.
    virtual void fill(int place, int task) = 0;

    /// Wait until the last `fill` of a place is done on the GPU.
    virtual void finish(int place) = 0;

    /// Whether a `fill` that failed has spoiled the plan: it is to be thrown away then, and loaded anew.
    virtual bool spoiled_by_failure() const = 0;

    /// What one request at a time needs to run it. Does not outlive the plan.
    class Context {
    public:
        virtual ~Context() = default;

        /// Enqueue a batch of the plan's least to most images; all memory is the GPU's, logits are [count, the plan's].
        /// @param stream  a cudaStream_t.
        virtual void enqueue(const Batch& batch, void* stream) = 0;

        /// Run a batch of 1 to the plan's most images; all memory is the host's.
        /// @param classes  of the task: logits are [count, classes]; complete on return.
        virtual void infer(const Batch& batch, std::size_t classes) = 0;
    };
    virtual std::unique_ptr<Context> make_context() = 0;
};

}  // namespace packnet::detail
