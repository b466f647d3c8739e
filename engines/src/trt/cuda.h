/// @file
/// The little of CUDA's runtime that engines need: memory and streams that free themselves, errors that say what
/// failed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <utility>

#include "packnet/error.h"

namespace packnet::detail {

/// @throws EnvironmentFault  `code` is not success; with CUDA's message.
void check_cuda(cudaError_t code, const char* what);

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

    void* get() const noexcept { return data_; }
    template <typename T>
    T* as() const noexcept {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
};

using DeviceMemory = CudaMemory<cudaMalloc, cudaFree>;          // on the GPU
using PinnedMemory = CudaMemory<cudaMallocHost, cudaFreeHost>;  // page-locked, on the host

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
    void wait() const { check_cuda(cudaStreamSynchronize(stream_), "work on the GPU"); }

private:
    cudaStream_t stream_ = nullptr;
};

/// The GPU that CUDA lists first.
struct CudaDevice {
    std::string name;
    std::string compute_capability;  // "8.6"
};

/// @throws EnvironmentFault  there is none, or no driver to reach it with.
CudaDevice first_gpu();

}  // namespace packnet::detail
