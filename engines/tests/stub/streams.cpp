// Streams, each a thread that works off a queue, and events.

#include <algorithm>
#include <chrono>

#include "world.h"

void CUstream_st::work() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
        changed.wait(lock, [&] { return closed || !queue.empty(); });
        if (queue.empty()) return;
        StubWork next = std::move(queue.front());
        queue.pop_front();
        busy = true;
        lock.unlock();
        if (const int delay = stub_world().delay) std::this_thread::sleep_for(std::chrono::microseconds(delay));
        next();
        next = {};
        lock.lock();
        busy = false;
        changed.notify_all();
    }
}

void CUstream_st::put(StubWork next) {
    const std::lock_guard<std::mutex> lock(mutex);
    queue.push_back(std::move(next));
    changed.notify_all();
}

void CUstream_st::drain() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return queue.empty() && !busy; });
}

struct CUevent_st {
    const int device = stub_thread.device;
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

cudaError_t stub_enqueue(cudaStream_t stream, StubWork work) {
    if (!stream || stream->device != stub_thread.device) return stub_answer(cudaErrorInvalidResourceHandle);
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

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    if (stub_fails("cudaStreamCreate")) return stub_answer(cudaErrorMemoryAllocation);
    *stream = new CUstream_st;
    ++stub_world().live;
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
    --stub_world().live;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (stream->is_capturing) {
        stream->spoilt = true;
        return stub_answer(cudaErrorStreamCaptureUnsupported);
    }
    stream->drain();
    return stub_fails("cudaStreamSynchronize") ? stub_answer(cudaErrorUnknown) : cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new CUevent_st;
    ++stub_world().live;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    --stub_world().live;
    event->release();
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (event->device != stream->device) return stub_answer(cudaErrorInvalidResourceHandle);
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
        return stub_answer(cudaErrorStreamCaptureIsolation);
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

}  // extern "C"
