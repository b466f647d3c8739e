/// @file
/// What tests ask of the stand-ins, and what the two stand-ins ask of each other.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

/// Every piece of work on a stream takes so long before it begins.
void stub_delay(int microseconds);

/// The call of that name fails from its `nth` use on (1 for the next), for `times` uses; an inference while it is
/// captured is "capture", a refit is "refit".
void stub_fail(const char* call, int nth = 1, int times = 1);

/// Nothing fails any more.
void stub_heal();

/// Things that were made and not given back: memory, streams, events, graphs, engines, contexts.
int stub_live();

/// What happened since the program began: how often, and bytes.
struct StubCounts {
    std::size_t launches, graph_launches, contexts, deserialised;   // inferences, ...
    std::size_t refits, refitted, refitted_from_host, unvalidated;  // weights; without a look at their values
    std::size_t copies, copied;                                     // bytes
    std::size_t switches;                                           // launches of kernels that switch weights
    std::size_t written, values, positions;  // weights that these wrote; bytes of values, masks and counts they read
};
StubCounts stub_counts();

/// What happened between the two.
StubCounts operator-(StubCounts after, const StubCounts& before);

/// Bytes of the GPU's memory that are taken now, those of TensorRT's weights too.
std::size_t stub_device_bytes();

/// The library has no kernels, as if it had been built without a CUDA compiler.
void stub_without_kernels(bool without);

// ---- between the two ------------------------------------------------------------------------------------------------

[[noreturn]] void stub_abort(const char* why);
bool stub_fails(const char* call);
void stub_count(std::size_t StubCounts::* what, std::size_t more = 1);
void stub_alive(int change);
void stub_engine_bytes(std::ptrdiff_t change);

/// Where `bytes` bytes at an address on the GPU lie for the host; ends the program where they were not allocated.
std::byte* stub_resolve(const void* address, std::size_t bytes);

/// Enqueue work; recorded where the stream is being captured.
cudaError_t stub_enqueue(cudaStream_t stream, std::function<void()> work);
bool stub_is_capturing(cudaStream_t stream);
void stub_spoil_capture(cudaStream_t stream);
