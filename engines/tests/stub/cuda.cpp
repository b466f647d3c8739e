// The CUDA runtime's stand-in: memory, streams, events, graphs. What it promises is in README.md.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "stub.h"

namespace {

constexpr int kDevices = 2;
constexpr std::uintptr_t kGpu = std::uintptr_t{1} << 62;  // added to what the host may not touch
constexpr std::size_t kAlignment = 256;

using Work = std::function<void()>;

struct World {
    std::mutex mutex;
    std::map<std::uintptr_t, std::size_t> device_memory, pinned_memory;
    std::map<std::string, std::pair<int, int>> failures;  // uses to come before, and times
    std::atomic<int> delay{0}, live{0};
    StubCounts counts{};
};

World& world() {
    static World* const world = new World;  // streams may outlive everything else
    return *world;
}

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStream_t capturing = nullptr;  // by this thread

cudaError_t answer(cudaError_t code) {
    if (code != cudaSuccess) last_error = code;
    return code;
}

}  // namespace

void stub_abort(const char* why) {
    std::fprintf(stderr, "stand-in: %s\n", why);
    std::abort();
}

bool stub_fails(const char* call) {
    const std::lock_guard<std::mutex> lock(world().mutex);
    const auto found = world().failures.find(call);
    if (found == world().failures.end() || --found->second.first > 0) return false;
    if (--found->second.second <= 0) world().failures.erase(found);
    return true;
}

void stub_fail(const char* call, int nth, int times) {
    const std::lock_guard<std::mutex> lock(world().mutex);
    world().failures[call] = {nth, times};
}

void stub_heal() {
    const std::lock_guard<std::mutex> lock(world().mutex);
    world().failures.clear();
}

void stub_delay(int microseconds) { world().delay = microseconds; }
int stub_live() { return world().live; }
void stub_alive(int change) { world().live += change; }

StubCounts stub_counts() {
    const std::lock_guard<std::mutex> lock(world().mutex);
    return world().counts;
}

void stub_count(int StubCounts::* what) {
    const std::lock_guard<std::mutex> lock(world().mutex);
    ++(world().counts.*what);
}

std::byte* stub_resolve(const void* address, std::size_t bytes) {
    const auto given = reinterpret_cast<std::uintptr_t>(address);
    if (given < kGpu) stub_abort("an address of the host, where one of the GPU is needed");
    const std::lock_guard<std::mutex> lock(world().mutex);
    const auto after = world().device_memory.upper_bound(given - kGpu);
    if (after == world().device_memory.begin()) stub_abort("an address that was not allocated");
    const auto& [base, size] = *std::prev(after);
    if (given - kGpu + bytes > base + size) stub_abort("an access beyond what was allocated");
    return reinterpret_cast<std::byte*>(given - kGpu);
}

namespace {

bool is_device(const void* address) { return reinterpret_cast<std::uintptr_t>(address) >= kGpu; }

bool is_pinned(const void* address) {
    const auto given = reinterpret_cast<std::uintptr_t>(address);
    const std::lock_guard<std::mutex> lock(world().mutex);
    const auto after = world().pinned_memory.upper_bound(given);
    if (after == world().pinned_memory.begin()) return false;
    const auto& [base, size] = *std::prev(after);
    return given < base + size;
}

cudaError_t take(std::map<std::uintptr_t, std::size_t>& memory, void** address, std::size_t bytes, std::uintptr_t add) {
    void* const got = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    std::memset(got, 0xa5, bytes);  // what nobody has written is no zero
    const std::lock_guard<std::mutex> lock(world().mutex);
    memory[reinterpret_cast<std::uintptr_t>(got)] = bytes;
    ++world().live;
    *address = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(got) + add);
    return cudaSuccess;
}

cudaError_t give_back(std::map<std::uintptr_t, std::size_t>& memory, void* address, std::uintptr_t added) {
    if (!address) return cudaSuccess;
    const auto base = reinterpret_cast<std::uintptr_t>(address) - added;
    {
        const std::lock_guard<std::mutex> lock(world().mutex);
        if (!memory.erase(base)) return cudaErrorInvalidValue;
    }
    --world().live;
    std::free(reinterpret_cast<void*>(base));
    return cudaSuccess;
}

}  // namespace

/// A queue, and the thread that works it off.
struct CUstream_st {
    const int device = current_device;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Work> queue;
    bool busy = false, closed = false;
    bool is_capturing = false, spoilt = false;
    std::vector<Work> captured;
    std::thread thread{[this] { work(); }};

    void work() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return closed || !queue.empty(); });
            if (queue.empty()) return;
            Work next = std::move(queue.front());
            queue.pop_front();
            busy = true;
            lock.unlock();
            if (const int delay = world().delay) std::this_thread::sleep_for(std::chrono::microseconds(delay));
            next();
            next = {};
            lock.lock();
            busy = false;
            changed.notify_all();
        }
    }

    void put(Work next) {
        const std::lock_guard<std::mutex> lock(mutex);
        queue.push_back(std::move(next));
        changed.notify_all();
    }

    void drain() {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return queue.empty() && !busy; });
    }
};

struct CUevent_st {
    const int device = current_device;
    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t recorded = 0, reached = 0;
    std::atomic<int> users{1};  // itself, and work that waits for it or reaches it

    void wait(std::uint64_t ticket) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return reached >= ticket; });
    }
    void release() {
        if (--users == 0) delete this;
    }
};

struct CUgraph_st {
    std::vector<Work> work;
};
struct CUgraphExec_st {
    std::vector<Work> work;
};

cudaError_t stub_enqueue(cudaStream_t stream, Work work) {
    if (!stream || stream->device != current_device) return answer(cudaErrorInvalidResourceHandle);
    if (stream->is_capturing) {
        stream->captured.push_back(std::move(work));
    } else {
        stream->put(std::move(work));
    }
    return cudaSuccess;
}

bool stub_is_capturing(cudaStream_t stream) { return stream->is_capturing; }
void stub_spoil_capture(cudaStream_t stream) { stream->spoilt = true; }

extern "C" {

const char* cudaGetErrorString(cudaError_t code) {
    switch (code) {
        case cudaSuccess: return "no error";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        case cudaErrorInvalidDevice: return "invalid device ordinal";
        case cudaErrorInvalidResourceHandle: return "invalid resource handle";
        case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
        case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
        case cudaErrorStreamCaptureIsolation: return "dependency created on uncaptured work in another stream";
        default: return "unknown error";
    }
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t last = last_error;
    last_error = cudaSuccess;
    return last;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = kDevices;
    return stub_fails("cudaGetDeviceCount") ? answer(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= kDevices) return answer(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    std::snprintf(properties->name, sizeof properties->name, "stand-in %d", device);
    properties->major = 8;
    properties->minor = device == 0 ? 6 : 9;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** address, size_t bytes) {
    if (capturing) {
        capturing->spoilt = true;
        return answer(cudaErrorStreamCaptureUnsupported);
    }
    if (stub_fails("cudaMalloc")) return answer(cudaErrorMemoryAllocation);
    return take(world().device_memory, address, bytes, kGpu);
}
cudaError_t cudaFree(void* address) { return answer(give_back(world().device_memory, address, kGpu)); }

cudaError_t cudaMallocHost(void** address, size_t bytes) {
    if (stub_fails("cudaMallocHost")) return answer(cudaErrorMemoryAllocation);
    return take(world().pinned_memory, address, bytes, 0);
}
cudaError_t cudaFreeHost(void* address) { return answer(give_back(world().pinned_memory, address, 0)); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    if (stub_fails("cudaStreamCreate")) return answer(cudaErrorMemoryAllocation);
    *stream = new CUstream_st;
    ++world().live;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    {
        const std::lock_guard<std::mutex> lock(stream->mutex);
        stream->closed = true;
        stream->changed.notify_all();
    }
    stream->thread.join();  // what is enqueued is done first
    delete stream;
    --world().live;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (stream->is_capturing) {
        stream->spoilt = true;
        return answer(cudaErrorStreamCaptureUnsupported);
    }
    stream->drain();
    return stub_fails("cudaStreamSynchronize") ? answer(cudaErrorUnknown) : cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t stream) {
    if (stub_fails("cudaMemcpyAsync")) return answer(cudaErrorUnknown);
    if (width > to_pitch || width > from_pitch) return answer(cudaErrorInvalidValue);
    if (width == 0 || height == 0) return cudaSuccess;
    stub_count(&StubCounts::copies);
    const bool reads_late = is_device(from) || is_pinned(from), writes_late = is_device(to) || is_pinned(to);
    std::shared_ptr<std::vector<std::byte>> staged;
    if (!reads_late) {
        const auto* const bytes = static_cast<const std::byte*>(from);
        staged = std::make_shared<std::vector<std::byte>>(bytes, bytes + from_pitch * (height - 1) + width);
    }
    const cudaError_t code = stub_enqueue(stream, [=] {
        const std::byte* source = staged            ? staged->data()
                                  : is_device(from) ? stub_resolve(from, from_pitch * (height - 1) + width)
                                                    : static_cast<const std::byte*>(from);
        std::byte* target =
            is_device(to) ? stub_resolve(to, to_pitch * (height - 1) + width) : static_cast<std::byte*>(to);
        for (size_t row = 0; row < height; ++row) {
            std::memcpy(target + row * to_pitch, source + row * from_pitch, width);
        }
    });
    if (code == cudaSuccess && !writes_late && !stream->is_capturing) stream->drain();
    return code;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
    return stub_enqueue(stream, [=] { std::memset(stub_resolve(to, bytes), value, bytes); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new CUevent_st;
    ++world().live;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    --world().live;
    event->release();
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (event->device != stream->device) return answer(cudaErrorInvalidResourceHandle);
    if (stream->is_capturing) stub_abort("an event recorded in a capture: not supported here");
    std::uint64_t ticket;
    {
        const std::lock_guard<std::mutex> lock(event->mutex);
        ticket = ++event->recorded;
    }
    ++event->users;
    stream->put([event, ticket] {
        {
            const std::lock_guard<std::mutex> lock(event->mutex);
            event->reached = std::max(event->reached, ticket);
        }
        event->changed.notify_all();
        event->release();
    });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    const std::lock_guard<std::mutex> lock(event->mutex);
    return event->reached >= event->recorded ? cudaSuccess : cudaErrorUnknown;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    std::uint64_t ticket;
    {
        const std::lock_guard<std::mutex> lock(event->mutex);
        ticket = event->recorded;
    }
    event->wait(ticket);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (stream->is_capturing) {
        stream->spoilt = true;
        return answer(cudaErrorStreamCaptureIsolation);
    }
    std::uint64_t ticket;
    {
        const std::lock_guard<std::mutex> lock(event->mutex);
        ticket = event->recorded;
    }
    ++event->users;
    stream->put([event, ticket] {
        event->wait(ticket);
        event->release();
    });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (stream->is_capturing || capturing) return answer(cudaErrorStreamCaptureUnsupported);
    stream->is_capturing = true;
    stream->spoilt = false;
    stream->captured.clear();
    capturing = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    if (!stream->is_capturing) return answer(cudaErrorInvalidValue);
    stream->is_capturing = false;
    capturing = nullptr;
    *graph = nullptr;
    if (stream->spoilt) return answer(cudaErrorStreamCaptureInvalidated);
    *graph = new CUgraph_st{std::move(stream->captured)};
    ++world().live;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* launchable, cudaGraph_t graph, unsigned long long) {
    if (stub_fails("cudaGraphInstantiate")) return answer(cudaErrorUnknown);
    *launchable = new CUgraphExec_st{graph->work};
    ++world().live;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (graph) --world().live;
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t launchable) {
    if (launchable) --world().live;
    delete launchable;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t launchable, cudaStream_t stream) {
    if (stub_fails("cudaGraphLaunch")) return answer(cudaErrorUnknown);
    stub_count(&StubCounts::graph_launches);
    for (const Work& work : launchable->work) {
        if (const cudaError_t code = stub_enqueue(stream, work)) return code;
    }
    return cudaSuccess;
}

}  // extern "C"
