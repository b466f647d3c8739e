/// @file
/// A plan on the GPU that runs as any task of a pack. In the library packnet::engine; needs TensorRT and a GPU.
///
/// A thin layer over packnet.h, all of it here: what is linked is C, so that neither compiler nor standard library of
/// an application need be those of the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "packnet/error.h"
#include "packnet/input.h"
#include "packnet/packnet.h"
#include "packnet/preprocess.h"

namespace packnet {

/// How to run a plan; packnet.h says what each of them means.
struct EngineOptions {
    int device = 0;
    packnet_bank bank = PACKNET_BANK_HOST;
    int resident = 1;
    int contexts = 8;
    bool cuda_graphs = false;
    unsigned threads = 0;
};

/// Whose logits they are.
struct Answer {
    std::string task;
    std::size_t classes;  // numbers for an image
};

/// How far an engine's logits lie from the pack's.
struct Difference {
    double largest, scale, allowed;
};

namespace detail {

/// @throws  the last call's error, where it failed.
inline void expect_ok(packnet_status status) {
    if (status == PACKNET_OK) return;
    const packnet_error& last = *packnet_last_error();
    if (status == PACKNET_ENVIRONMENT)
        throw EnvironmentFault(last.file, last.subject, last.expected, last.got, last.next);
    if (status == PACKNET_CHECK_FAILED) throw CheckFailed(last.file, last.subject, last.expected, last.got, last.next);
    throw Error(last.file, last.subject, last.expected, last.got, last.next);
}

}  // namespace detail

class Context;

/// One plan, loaded onto a GPU. Any number of threads may call anything at the same time, but for moving and destroying
/// it; every request carries its task. Which run at the same time is the plan's (packnet.h, packnet_engine).
class Engine {
public:
    /// Check everything (the sidecar, the pack, the plan's bytes, TensorRT's version, the GPU), then load the plan.
    /// @param pack  the folder of the pack that the plan was built from, or of one grown from it.
    /// @throws EnvironmentFault  no GPU, too little memory, or TensorRT failed.
    /// @throws Error             a file is damaged or does not fit the others, this TensorRT, or this GPU.
    Engine(const std::filesystem::path& plan, const std::filesystem::path& pack, const EngineOptions& options = {})
        : engine_(nullptr, packnet_engine_close) {
        packnet_options given;
        packnet_options_init(&given);
        given.device = options.device;
        given.bank = options.bank;
        given.resident = options.resident;
        given.contexts = options.contexts;
        given.cuda_graphs = options.cuda_graphs;
        given.threads = options.threads;
        packnet_engine* opened = nullptr;
        detail::expect_ok(packnet_engine_open(plan.string().c_str(), pack.string().c_str(), &given, &opened));
        engine_.reset(opened);
    }

    /// What is known of the plan.
    packnet_facts facts() const {
        packnet_facts facts;
        packnet_engine_facts(engine_.get(), &facts);
        return facts;
    }

    /// Numbers in one image.
    std::size_t image_size() const {
        const packnet_facts known = facts();
        return static_cast<std::size_t>(known.channels) * static_cast<std::size_t>(known.height) *
               static_cast<std::size_t>(known.width);
    }

    /// The tasks it can run, in the order of training.
    std::vector<std::string> tasks() const {
        std::vector<std::string> names;
        for (std::size_t i = 0; i < packnet_task_count(engine_.get()); ++i)
            names.emplace_back(packnet_task_name(engine_.get(), i));
        return names;
    }

    /// Names of a task's classes, in the order of its logits.
    /// @throws Error  there is no such task.
    std::vector<std::string> class_names(const std::string& task) const {
        (void)input(task);  // refuses an unknown one
        std::vector<std::string> names;
        for (std::size_t i = 0; i < packnet_class_count(engine_.get(), task.c_str()); ++i)
            names.emplace_back(packnet_class_name(engine_.get(), task.c_str(), i));
        return names;
    }

    /// How a task's images become its input, at the plan's size: for `centre` and `normalise`.
    /// @throws Error  there is no such task.
    InputSpec input(const std::string& task) const {
        packnet_input got;
        detail::expect_ok(packnet_task_input(engine_.get(), task.c_str(), &got));
        InputSpec spec{got.channels, got.height, got.width, {}, {}, got.resize};
        spec.mean.assign(got.mean, got.mean + got.channels);
        spec.stddev.assign(got.stddev, got.stddev + got.channels);
        spec.framing = static_cast<Framing>(got.framing);
        spec.fill = got.fill;
        spec.boxes = got.boxes != 0;
        spec.exif_orientation = got.exif_orientation != 0;
        return spec;
    }

    /// Logits of any number of images, of one task whatever other threads do meanwhile.
    /// @param images  float32 [count, channels, height, width], normalised; the caller's memory.
    /// @param logits  becomes float32 [count, classes of the task].
    /// @throws Error  there is no such task, or TensorRT or CUDA failed.
    Answer infer(const std::string& task, const float* images, std::size_t count, std::vector<float>& logits) {
        logits.resize(count * packnet_class_count(engine_.get(), task.c_str()));
        return infer(task, images, count, logits.data(), logits.size());
    }

    /// The same into memory that has room for `room` numbers.
    Answer infer(const std::string& task, const float* images, std::size_t count, float* logits, std::size_t room) {
        packnet_answer answer;
        detail::expect_ok(packnet_infer(engine_.get(), task.c_str(), images, count, logits, room, &answer));
        return {answer.task, answer.classes};
    }

    /// Logits of the current task, which the answer names: another thread may have changed it since you set it.
    /// @param logits  becomes float32 [count, answer.classes].
    Answer infer(const float* images, std::size_t count, std::vector<float>& logits) {
        logits.resize(count * static_cast<std::size_t>(facts().logits));
        packnet_answer answer;
        detail::expect_ok(packnet_infer(engine_.get(), nullptr, images, count, logits.data(), logits.size(), &answer));
        logits.resize(count * answer.classes);
        return {answer.task, answer.classes};
    }

    /// Have a task's weights in place, and make it the current one. The current one again costs nothing.
    /// @throws Error  there is no such task; or switching failed: then there is no current one.
    void set_task(const std::string& name) { detail::expect_ok(packnet_set_task(engine_.get(), name.c_str())); }

    /// The current task; empty where there is none.
    std::string task() const { return packnet_current_task(engine_.get()); }

    /// Run the probe images as a task on this GPU, and hold the logits against the training framework's.
    /// @throws CheckFailed  they differ by more than the plan's precision explains.
    Difference check(const std::string& task) {
        packnet_difference got;
        detail::expect_ok(packnet_check(engine_.get(), task.c_str(), &got));
        return {got.largest, got.scale, got.allowed};
    }

private:
    friend class Context;
    std::unique_ptr<packnet_engine, void (*)(packnet_engine*)> engine_;
};

/// One execution context: requests on your own stream and memory. For one thread at a time; it may outlive its engine.
class Context {
public:
    /// @throws Error  the engine has as many as its options allow.
    explicit Context(Engine& engine) : context_(nullptr, packnet_context_destroy) {
        packnet_context* created = nullptr;
        detail::expect_ok(packnet_context_create(engine.engine_.get(), &created));
        context_.reset(created);
    }

    /// Enqueue one batch on your stream: no copy, no synchronisation (packnet.h, packnet_context_enqueue).
    /// @param images  float32 [count, channels, height, width], on the engine's GPU, aligned to 256 bytes.
    /// @param logits  float32 [count, facts().logits], likewise; `room` numbers.
    /// @param stream  a cudaStream_t.
    void enqueue(const std::string& task, const float* images, std::size_t count, float* logits, std::size_t room,
                 void* stream) {
        detail::expect_ok(packnet_context_enqueue(context_.get(), task.c_str(), images, count, logits, room, stream));
    }

    /// Engine::infer on this context.
    Answer infer(const std::string& task, const float* images, std::size_t count, float* logits, std::size_t room) {
        packnet_answer answer;
        detail::expect_ok(packnet_context_infer(context_.get(), task.c_str(), images, count, logits, room, &answer));
        return {answer.task, answer.classes};
    }

private:
    std::unique_ptr<packnet_context, void (*)(packnet_context*)> context_;
};

/// Who hears what TensorRT and this library say: `listener(severity, message)`, from any thread. One for the process;
/// an empty one for nobody.
inline void set_listener(std::function<void(packnet_severity, const std::string&)> listener) {
    using Listener = decltype(listener);
    static std::unique_ptr<Listener> kept;
    auto next = std::make_unique<Listener>(std::move(listener));
    const auto call = [](void* user, packnet_severity severity, const char* message) {
        (*static_cast<Listener*>(user))(severity, message);
    };
    packnet_set_listener(*next ? +call : nullptr, next.get());
    kept = std::move(next);
}

}  // namespace packnet
