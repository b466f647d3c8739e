/// @file
/// What the parts of the CUDA runtime's stand-in share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "stub.h"

using StubWork = std::function<void()>;

struct StubWorld {
    std::mutex mutex;
    std::map<std::uintptr_t, std::size_t> device_memory, pinned_memory;
    std::map<std::string, std::pair<int, int>> failures;  // uses to come before, and times
    std::atomic<int> delay{0}, live{0};
    std::size_t engine_bytes = 0;  // of the GPU's memory, that TensorRT took for weights
    StubCounts counts{};
};
StubWorld& stub_world();

/// Of the calling thread.
struct StubThread {
    int device = 0;
    cudaError_t last_error = cudaSuccess;
    cudaStream_t capturing = nullptr;
};
extern thread_local StubThread stub_thread;

/// What a call gives back: errors are remembered.
cudaError_t stub_answer(cudaError_t code);

/// A queue, and the thread that works it off.
struct CUstream_st {
    const int device = stub_thread.device;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<StubWork> queue;
    bool busy = false, closed = false;
    bool is_capturing = false, spoilt = false;
    std::vector<StubWork> captured;
    std::thread thread{[this] { work(); }};

    void work();
    void put(StubWork next);
    void drain();
};

struct CUgraph_st {
    std::vector<StubWork> work;
};
struct CUgraphExec_st {
    std::vector<StubWork> work;
};
