// packnet.h: handles are what they say, exceptions become statuses, and the last error is the thread's.

#include <algorithm>
#include <cstring>

#include "boundary.h"
#include "cuda.h"
#include "engine.h"
#include "packnet/packnet.h"
#include "packnet/preprocess.h"
#include "tensorrt.h"

using packnet::Error;
using packnet::InputSpec;
using packnet::detail::OnDevice;
using packnet::detail::Session;
using packnet::detail::SessionTask;
using packnet::detail::TensorRtLog;

struct packnet_engine {
    std::shared_ptr<packnet::detail::Engine> engine;
};

struct packnet_context {
    std::shared_ptr<packnet::detail::Engine> engine;
    Session::Lent lent;
};

namespace {

/// A thread's last error. Parts are kept as texts: packnet_error points into them.
struct LastError {
    Error error{{}, "no error"};
    packnet_error shown{PACKNET_OK, "", "", "", "", "", ""};

    void set(packnet_status status, const Error& from) {
        error = from;
        shown = {status,
                 error.what(),
                 error.file().c_str(),
                 error.subject().c_str(),
                 error.expected().c_str(),
                 error.got().c_str(),
                 error.next().c_str()};
    }
};

thread_local LastError last_error;

packnet_status status_of(const Error& error) noexcept {
    if (dynamic_cast<const packnet::EnvironmentFault*>(&error)) return PACKNET_ENVIRONMENT;
    if (dynamic_cast<const packnet::CheckFailed*>(&error)) return PACKNET_CHECK_FAILED;
    return error.file().empty() ? PACKNET_USAGE : PACKNET_ARTEFACT;
}

/// Keep the exception being handled as the thread's last error.
packnet_status keep_error() noexcept {
    try {
        packnet::detail::rethrow_as_error({});
    } catch (const Error& error) {
        const packnet_status status = status_of(error);
        try {
            last_error.set(status, error);
        } catch (...) {
            last_error.shown = {PACKNET_ENVIRONMENT, "memory: none left to say what failed", "", "memory", "", "", ""};
        }
        return status;
    } catch (...) {
        last_error.shown = {PACKNET_ENVIRONMENT, "memory: none left to say what failed", "", "memory", "", "", ""};
        return PACKNET_ENVIRONMENT;
    }
}

template <typename Work>
packnet_status status_after(const Work& work) noexcept {
    try {
        work();
        return PACKNET_OK;
    } catch (...) {
        return keep_error();
    }
}

/// What `work` returns, or `otherwise` where it failed.
template <typename Value, typename Work>
Value value_of(Value otherwise, const Work& work) noexcept {
    Value value = otherwise;
    return status_after([&] { value = work(); }) == PACKNET_OK ? value : otherwise;
}

template <typename Pointer>
Pointer* given(Pointer* pointer, const char* what) {
    if (!pointer) throw Error({}, what, "an address", "null");
    return pointer;
}

/// What a handle stands for.
template <typename Handle>
packnet::detail::Engine& engine_of(const Handle* handle) {
    return *given(handle, "handle")->engine;
}

/// A request for images needs both.
void check_addresses(const float* images, const float* logits, size_t count) {
    if (count == 0) return;
    given(images, "images");
    given(logits, "logits");
}

packnet_options with_defaults(const packnet_options* options) {
    packnet_options all;
    packnet_options_init(&all);
    if (!options) return all;
    if (options->size == 0 || options->size > sizeof all) {
        throw Error({}, "size of packnet_options", "1.." + std::to_string(sizeof all), std::to_string(options->size),
                    "call packnet_options_init first; a newer packnet.h needs a newer library");
    }
    std::memcpy(&all, options, options->size);
    return all;
}

void answer_with(const SessionTask& task, packnet_answer* answer) {
    if (answer) *answer = {task.name.c_str(), task.classes.size()};
}

}  // namespace

const packnet_error* packnet_last_error(void) { return &last_error.shown; }

const char* packnet_version(void) { return PACKNET_VERSION; }

const char* packnet_backend(void) { return packnet::detail::tensorrt_flavour(); }

const char* packnet_backend_version(void) {
    return value_of("", [] {
        static const std::string version = packnet::detail::tensorrt_version();
        return version.c_str();
    });
}

void packnet_set_listener(packnet_listener listener, void* user) {
    TensorRtLog::instance().set_listener(listener, user);
}

void packnet_options_init(packnet_options* options) { *options = {sizeof *options, 0, PACKNET_BANK_HOST, 1, 8, 0, 0}; }

packnet_status packnet_engine_open(const char* plan, const char* pack, const packnet_options* options,
                                   packnet_engine** engine) {
    return status_after([&] {
        *given(engine, "engine") = nullptr;
        *engine = new packnet_engine{std::make_shared<packnet::detail::Engine>(given(plan, "plan"), given(pack, "pack"),
                                                                               with_defaults(options))};
    });
}

void packnet_engine_close(packnet_engine* engine) { delete engine; }

void packnet_engine_facts(const packnet_engine* engine, packnet_facts* facts) {
    const packnet::Sidecar& known = engine->engine->session().sidecar();
    *facts = {known.input.channels,
              known.input.height,
              known.input.width,
              known.batch.least,
              known.batch.best,
              known.batch.most,
              known.classes,
              static_cast<packnet_switch>(known.mode),
              static_cast<std::int32_t>(packnet::item_size(known.precision))};
}

size_t packnet_task_count(const packnet_engine* engine) { return engine->engine->session().tasks().size(); }

const char* packnet_task_name(const packnet_engine* engine, size_t number) {
    const auto& tasks = engine->engine->session().tasks();
    return number < tasks.size() ? tasks[number].name.c_str() : nullptr;
}

size_t packnet_class_count(const packnet_engine* engine, const char* task) {
    return value_of(size_t{0}, [&] { return engine_of(engine).session().find(given(task, "task")).classes.size(); });
}

const char* packnet_class_name(const packnet_engine* engine, const char* task, size_t number) {
    return value_of<const char*>(nullptr, [&]() -> const char* {
        const auto& classes = engine_of(engine).session().find(given(task, "task")).classes;
        return number < classes.size() ? classes[number].c_str() : nullptr;
    });
}

packnet_status packnet_task_input(const packnet_engine* engine, const char* task, packnet_input* input) {
    return status_after([&] {
        const InputSpec& spec = engine_of(engine).session().find(given(task, "task")).input;
        *given(input, "input") = {spec.channels,
                                  spec.height,
                                  spec.width,
                                  {},
                                  {},
                                  spec.resize,
                                  static_cast<std::int32_t>(spec.framing),
                                  spec.fill,
                                  spec.boxes,
                                  spec.exif_orientation};
        std::copy(spec.mean.begin(), spec.mean.end(), input->mean);
        std::copy(spec.stddev.begin(), spec.stddev.end(), input->stddev);
    });
}

packnet_status packnet_prepare(const packnet_engine* engine, const char* task, const uint8_t* pixels, int32_t width,
                               int32_t height, int32_t channels, int32_t orientation, float* image) {
    return status_after([&] {
        const InputSpec& spec = engine_of(engine).session().find(given(task, "task")).input;
        const std::vector<std::uint8_t> framed =
            packnet::centre(spec, {given(pixels, "pixels"), width, height, channels, orientation});
        packnet::normalise(spec, framed.data(), 1, given(image, "image"));
    });
}

packnet_status packnet_infer(packnet_engine* engine, const char* task, const float* images, size_t count, float* logits,
                             size_t room, packnet_answer* answer) {
    return status_after([&] {
        const SessionTask& wanted = engine_of(engine).task(task);
        check_addresses(images, logits, count);
        const OnDevice here(engine_of(engine).device());
        engine_of(engine).session().infer(wanted, images, count, logits, room);
        answer_with(wanted, answer);
    });
}

packnet_status packnet_set_task(packnet_engine* engine, const char* task) {
    return status_after([&] {
        const OnDevice here(engine_of(engine).device());
        engine_of(engine).session().set_task(given(task, "task"));
    });
}

const char* packnet_current_task(const packnet_engine* engine) {
    const SessionTask* const current = engine->engine->session().current();
    return current ? current->name.c_str() : "";
}

packnet_status packnet_check(packnet_engine* engine, const char* task, packnet_difference* difference) {
    return status_after([&] {
        const SessionTask& wanted = engine_of(engine).task(given(task, "task"));
        const OnDevice here(engine_of(engine).device());
        const packnet_difference got = engine_of(engine).check(wanted);
        if (difference) *difference = got;
    });
}

packnet_status packnet_context_create(packnet_engine* engine, packnet_context** context) {
    return status_after([&] {
        *given(context, "context") = nullptr;
        *context = new packnet_context{engine->engine, {engine_of(engine).session(), false}};
    });
}

void packnet_context_destroy(packnet_context* context) { delete context; }

packnet_status packnet_context_infer(packnet_context* context, const char* task, const float* images, size_t count,
                                     float* logits, size_t room, packnet_answer* answer) {
    return status_after([&] {
        const SessionTask& wanted = engine_of(context).task(task);
        check_addresses(images, logits, count);
        const OnDevice here(engine_of(context).device());
        context->lent.infer(wanted, images, count, logits, room);
        answer_with(wanted, answer);
    });
}

packnet_status packnet_context_enqueue(packnet_context* context, const char* task, const float* images, size_t count,
                                       float* logits, size_t room, void* stream) {
    return status_after([&] {
        const SessionTask& wanted = engine_of(context).task(task);
        const OnDevice here(engine_of(context).device());
        context->lent.enqueue(wanted, images, count, logits, room, stream);
    });
}
