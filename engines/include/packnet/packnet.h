/**
 * @file
 * Running a plan as any task of a pack, in C: what every language can bind. In the library packnet::engine.
 *
 * engine.h is the same in C++, on top of this. Objects are opaque; every call that can fail returns a status, and the
 * reason is the thread's until its next call: packnet_last_error. Texts are UTF-8 that ends in a zero, and belong to
 * the library: those of an engine live as long as it does.
 *
 * Numbers of enumerators and the order of fields do not change within a major version; structs that you fill begin
 * with their size, so that they may grow.
 */
#ifndef PACKNET_PACKNET_H
#define PACKNET_PACKNET_H

#include <stddef.h>
#include <stdint.h>

#include "packnet/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What went wrong -------------------------------------------------------------------------------------------- */

typedef enum packnet_status { /* the exit codes of the command line */
                              PACKNET_OK = 0,
                              PACKNET_CHECK_FAILED = 1, /* an engine gives other logits than its pack */
                              PACKNET_USAGE = 2,        /* a wrong argument, such as an unknown task */
                              PACKNET_ENVIRONMENT =
                                  3, /* the machine lacks something: a GPU, memory, a file, another TensorRT */
                              PACKNET_ARTEFACT = 4 /* a file is damaged, or does not fit the others */
} packnet_status;

/* Parts that are not known are empty, never null. */
typedef struct packnet_error {
    packnet_status status;
    const char* line; /* all of it, for people: one line */
    const char* file;
    const char* subject;
    const char* expected;
    const char* got;
    const char* next; /* what to do about it */
} packnet_error;

/* Of this thread's last call that failed; valid until its next call that fails. Never null. */
PACKNET_API const packnet_error* packnet_last_error(void);

/* ---- The whole process ------------------------------------------------------------------------------------------ */

PACKNET_API const char* packnet_version(void);         /* of this library: "0.1.0" */
PACKNET_API const char* packnet_backend(void);         /* "tensorrt" or "tensorrt-rtx" */
PACKNET_API const char* packnet_backend_version(void); /* of the one that is loaded: "10.13.3.9" */

typedef enum packnet_severity {
    PACKNET_ERROR = 0,
    PACKNET_WARNING = 1,
    PACKNET_INFORMATION = 2,
    PACKNET_DETAIL = 3
} packnet_severity;

/* May be called from any thread, from several at once. It must call nothing of this library. */
typedef void (*packnet_listener)(void* user, packnet_severity severity, const char* message);

/* Who hears what TensorRT says, and this library; null for nobody. One for the process, since TensorRT keeps one
 * logger. When this returns, the listener of before is called no more. */
PACKNET_API void packnet_set_listener(packnet_listener listener, void* user);

/* ---- Engines ---------------------------------------------------------------------------------------------------- */

/* A plan on a GPU. Any number of threads may use one at the same time. Every request carries its task. How many tasks'
 * requests run at the same time depends on the plan's switch:
 *
 *     refit     one task's; a request of another waits for those that run, then the weights are replaced
 *     bind      those of `resident` tasks; a request of one more waits for the place that was used least recently
 *     selector  all
 *     none      all: it has one
 *
 * A plan is native code: load none that you do not trust. The hashes in its sidecar find damage, not malice. */
typedef struct packnet_engine packnet_engine;

typedef enum packnet_switch {
    PACKNET_REFIT = 0,
    PACKNET_BIND = 1,
    PACKNET_SELECTOR = 2,
    PACKNET_NONE = 3
} packnet_switch;

/* Where the weights of all tasks wait. A switch reads what differs, wherever that is. */
typedef enum packnet_bank {
    PACKNET_BANK_HOST = 0,  /* in page-locked memory: about one model on the GPU, whatever the number of tasks */
    PACKNET_BANK_DEVICE = 1 /* on the GPU: faster, and one or two models more; needs a library with kernels */
} packnet_bank;

typedef struct packnet_options {
    size_t size;      /* sizeof(packnet_options) */
    int32_t device;   /* the GPU, in CUDA's order. Default 0 */
    int32_t bank;     /* a packnet_bank. Default host */
    int32_t resident; /* bind: tasks whose weights lie on the GPU side by side; each costs one model. Default 1 */
    int32_t contexts; /* most execution contexts, 1..1024, each with memory for activations. Default 8 */
    int32_t
        cuda_graphs;  /* not 0: a batch that comes twice in a row is recorded, and replayed from then on. Default 0 */
    uint32_t threads; /* to read packs with; 0, the default, for one per processor */
} packnet_options;

PACKNET_API void packnet_options_init(packnet_options* options); /* the defaults */

/* Check everything (sidecar, pack, the plan's bytes, TensorRT's version, the GPU), then load the plan.
 * @param pack     the one the plan was built from, or one grown from it.
 * @param options  null for the defaults. */
PACKNET_API packnet_status packnet_engine_open(const char* plan, const char* pack, const packnet_options* options,
                                               packnet_engine** engine);

/* Null is harmless. Its contexts may be destroyed before or after; what it needs lives until the last of them. */
PACKNET_API void packnet_engine_close(packnet_engine* engine);

typedef struct packnet_facts {
    int32_t channels, height, width;             /* of an image */
    int32_t least_batch, best_batch, most_batch; /* images */
    int32_t logits;                              /* the plan's for an image, at least as many as any task's */
    int32_t switching;                           /* a packnet_switch */
    int32_t bytes_per_weight;                    /* 4 or 2 */
} packnet_facts;

PACKNET_API void packnet_engine_facts(const packnet_engine* engine, packnet_facts* facts);

/* ---- Its tasks -------------------------------------------------------------------------------------------------- */

PACKNET_API size_t packnet_task_count(const packnet_engine* engine);

/* In the order of training; null where there are not so many. */
PACKNET_API const char* packnet_task_name(const packnet_engine* engine, size_t number);

/* 0 where there is no such task. */
PACKNET_API size_t packnet_class_count(const packnet_engine* engine, const char* task);

/* In the order of the logits; null where there is none. */
PACKNET_API const char* packnet_class_name(const packnet_engine* engine, const char* task, size_t number);

/* How a task's pictures become its images, at the plan's size: InputSpec of input.h. */
typedef struct packnet_input {
    int32_t channels, height, width;
    float mean[3], stddev[3]; /* by channel, of pixels scaled to 0..1 */
    int32_t resize;
    int32_t framing; /* 0 crop, 1 whole, 2 pad */
    int32_t fill;
    int32_t boxes;            /* 0 or 1 */
    int32_t exif_orientation; /* 0 or 1 */
} packnet_input;

PACKNET_API packnet_status packnet_task_input(const packnet_engine* engine, const char* task, packnet_input* input);

/* A decoded picture: turned, resized, framed and normalised as the task asks.
 * @param pixels       uint8 [height, width, channels].
 * @param orientation  as EXIF has it, 1..8; 1 where it is upright.
 * @param image        float32 [channels, height, width] of packnet_facts. */
PACKNET_API packnet_status packnet_prepare(const packnet_engine* engine, const char* task, const uint8_t* pixels,
                                           int32_t width, int32_t height, int32_t channels, int32_t orientation,
                                           float* image);

/* ---- Requests --------------------------------------------------------------------------------------------------- */

typedef struct packnet_answer {
    const char* task; /* whose logits they are */
    size_t classes;   /* numbers for an image */
} packnet_answer;

/* Logits of any number of images, complete on return. They are one task's, whatever other threads do meanwhile.
 * @param task    null for the current one (packnet_set_task); the answer says which that was.
 * @param images  float32 [count, channels, height, width], on the host.
 * @param logits  float32 [count, classes of the task], on the host.
 * @param room    numbers that `logits` has room for; fewer than count * classes is an error.
 * @param answer  may be null. */
PACKNET_API packnet_status packnet_infer(packnet_engine* engine, const char* task, const float* images, size_t count,
                                         float* logits, size_t room, packnet_answer* answer);

/* Have a task's weights in place, and make it the current one. The current one again costs nothing. */
PACKNET_API packnet_status packnet_set_task(packnet_engine* engine, const char* task);

/* The current task; empty before packnet_set_task, and after one that failed. */
PACKNET_API const char* packnet_current_task(const packnet_engine* engine);

typedef struct packnet_difference {
    double largest; /* |logit - the pack's| */
    double scale;   /* the pack's largest |logit| */
    double allowed; /* as the plan's precision explains */
} packnet_difference;

/* Run the probe images as a task on this GPU, and hold the logits against those that the training framework gave.
 * @param difference  may be null. */
PACKNET_API packnet_status packnet_check(packnet_engine* engine, const char* task, packnet_difference* difference);

/* ---- Contexts: requests on your own stream and memory ----------------------------------------------------------- */

/* One execution context, for one thread at a time. It takes one of the engine's `contexts` until it is destroyed. */
typedef struct packnet_context packnet_context;

PACKNET_API packnet_status packnet_context_create(packnet_engine* engine, packnet_context** context);
PACKNET_API void packnet_context_destroy(packnet_context* context); /* null is harmless */

/* packnet_infer on this context. */
PACKNET_API packnet_status packnet_context_infer(packnet_context* context, const char* task, const float* images,
                                                 size_t count, float* logits, size_t room, packnet_answer* answer);

/* Enqueue one batch on your stream: no copy, no synchronisation. The task's weights stay in place until it is done.
 * If they are not in place, they are brought there first: on the stream (bind), or before this returns (refit).
 * Batches of one context run one after the other, whatever their streams. Not to be captured into a CUDA graph.
 * @param count   packnet_facts' least_batch to most_batch.
 * @param images  float32 [count, channels, height, width], on the engine's GPU, aligned to 256 bytes.
 * @param logits  float32 [count, packnet_facts' logits], likewise; those beyond the task's classes mean nothing.
 * @param room    numbers that `logits` has room for.
 * @param stream  a cudaStream_t of the engine's GPU. */
PACKNET_API packnet_status packnet_context_enqueue(packnet_context* context, const char* task, const float* images,
                                                   size_t count, float* logits, size_t room, void* stream);

#ifdef __cplusplus
}
#endif

#endif
