/// @file
/// The little of CUDA's runtime that engines need: memory, streams and events that free themselves, errors that say
/// what failed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <utility>

#include "packnet/error.h"

namespace packnet::detail {

/// @throws EnvironmentFault  `code` is not success; with CUDA's message.
void check_cuda(cudaError_t code, const char* what);

/// Makes a GPU the calling thread's while it lives, and the one of before again after that.
class OnDevice {
public:
    explicit OnDevice(int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int before_ = 0;
    bool changed_ = false;
};

/// Bytes of one kind of memory.
template <cudaError_t (*allocate)(void**, std::size_t), cudaError_t (*release)(void*)>
class CudaMemory {
public:
    CudaMemory() = default;
    CudaMemory(std::size_t bytes, const char* what) {
        if (bytes) check_cuda(allocate(&data_, bytes), what);
    }
    ~CudaMemory() { release(data_); }
    CudaMemory(CudaMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    CudaMemory& operator=(CudaMemory&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }

    template <typename T>
    T* as() const noexcept {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
};

inline cudaError_t allocate_mapped(void** data, std::size_t bytes) {
    return cudaHostAlloc(data, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
}

using DeviceMemory = CudaMemory<cudaMalloc, cudaFree>;           // on the GPU
using PinnedMemory = CudaMemory<allocate_mapped, cudaFreeHost>;  // page-locked, on the host, where kernels read it

/// Where kernels read and write page-locked memory; on some machines the host has it at another address.
inline std::byte* address_on_gpu(const PinnedMemory& memory) {
    void* address = nullptr;
    check_cuda(cudaHostGetDevicePointer(&address, memory.as<void>(), 0), "the GPU's address of page-locked memory");
    return static_cast<std::byte*>(address);
}

/// A point in a stream that others wait for. One that was never recorded has been reached.
class Event {
public:
    Event() { check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "a CUDA event"); }
    ~Event() { cudaEventDestroy(event_); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    void record(cudaStream_t stream) { check_cuda(cudaEventRecord(event_, stream), "recording an event"); }

    /// What is enqueued on `stream` from now on begins after this.
    void hold_back(cudaStream_t stream) const {
        check_cuda(cudaStreamWaitEvent(stream, event_, 0), "waiting for an event");
    }

    void wait() const { check_cuda(cudaEventSynchronize(event_), "work on the GPU"); }

    /// wait() for destructors.
    void wait_quietly() const noexcept { cudaEventSynchronize(event_); }

private:
    cudaEvent_t event_ = nullptr;
};

/// A queue of work on the GPU.
class Stream {
public:
    Stream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a CUDA stream"); }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t get() const noexcept { return stream_; }

    void copy(void* to, const void* from, std::size_t bytes) const {
        check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), "a copy between host and GPU");
    }
    void clear(void* at, std::size_t bytes) const {
        check_cuda(cudaMemsetAsync(at, 0, bytes, stream_), "clearing memory of the GPU");
    }
    void wait() const { check_cuda(cudaStreamSynchronize(stream_), "work on the GPU"); }

private:
    cudaStream_t stream_ = nullptr;
};

/// A GPU.
struct CudaDevice {
    std::string name;
    std::string compute_capability;  // "8.6"
};

/// @param index  in CUDA's order.
/// @throws EnvironmentFault  there is no such GPU, or no driver to reach it with.
CudaDevice gpu_of(int index);

}  // namespace packnet::detail
