/// @file
/// A plan on the GPU that becomes any task of a pack. In the library packnet::engine; needs TensorRT and a GPU.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "packnet/input.h"
#include "packnet/pack.h"
#include "packnet/sidecar.h"

namespace packnet {

/// One plan, loaded onto the GPU that CUDA lists first (CUDA_VISIBLE_DEVICES).
///
/// Any number of threads may call anything at the same time. Requests run side by side, each thread on an execution
/// context and a stream of its own; set_task waits for those that are running and holds back those that come. The task
/// is the engine's, not the thread's: threads that want different tasks take turns, or use the mode `selector` with an
/// engine each.
///
/// A plan is native code: load none that you do not trust. The hashes in its sidecar find damage, not malice.
class Engine {
public:
    /// Check everything (the sidecar, the pack, the plan's bytes, TensorRT's version, the GPU), then load the plan.
    /// A plan of one task is that task at once; every other one is none until set_task.
    /// @param pack     the one the plan was built from, or one grown from it.
    /// @param threads  how many to read the pack with; 0 for one per processor.
    /// @throws EnvironmentFault  no GPU, too little memory, or TensorRT failed.
    /// @throws Error             a file is damaged or does not fit the others, this TensorRT, or this GPU.
    Engine(const std::filesystem::path& plan, const Pack& pack, unsigned threads = 0);
    ~Engine();
    Engine(Engine&&) noexcept;
    Engine& operator=(Engine&&) noexcept;

    /// What is known of the plan.
    const Sidecar& sidecar() const noexcept;

    /// How a task's images become its input, at the plan's size: for `centre` and `normalise`.
    /// @throws Error  there is no such task.
    const InputSpec& input(std::string_view task) const;

    /// The tasks it can become, in the order of training.
    std::vector<std::string> tasks() const;

    /// Names of a task's classes, in the order of its logits.
    /// @throws Error  there is no such task.
    const std::vector<std::string>& class_names(std::string_view task) const;

    /// The task it is; empty where it is none.
    std::string task() const;

    /// Become a task; done on return. Returns at once where it is that task already.
    /// @throws Error  there is no such task; or switching failed: then the engine is no task, and the next set_task
    /// loads
    ///                the plan anew.
    void set_task(std::string_view name);

    /// Logits of any number of images; requests larger than the plan's batch are cut into several.
    /// @param images  float32 [count, channels, height, width], normalised; the caller's memory.
    /// @return        float32 [count, classes of the task].
    /// @throws Error  it is no task, or TensorRT or CUDA failed.
    std::vector<float> infer(const float* images, std::size_t count);

private:
    struct Content;
    std::unique_ptr<Content> content_;
};

}  // namespace packnet
