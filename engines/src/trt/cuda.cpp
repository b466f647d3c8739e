#include "cuda.h"

namespace packnet::detail {

void check_cuda(cudaError_t code, const char* what) {
    if (code == cudaSuccess) return;
    throw EnvironmentFault({}, std::string("CUDA, ") + what, "success", cudaGetErrorString(code),
                           code == cudaErrorMemoryAllocation ? "free memory on the GPU" : "see nvidia-smi");
}

OnDevice::OnDevice(int device) {
    check_cuda(cudaGetDevice(&before_), "the thread's GPU");
    if (before_ == device) return;
    check_cuda(cudaSetDevice(device), "choosing the GPU");
    changed_ = true;
}

OnDevice::~OnDevice() {
    if (changed_) cudaSetDevice(before_);
}

CudaDevice gpu_of(int index) {
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0) {
        throw EnvironmentFault({}, "running a plan", "an NVIDIA GPU and its driver",
                               code == cudaSuccess ? "none" : cudaGetErrorString(code),
                               "install the driver, or a newer one; see nvidia-smi");
    }
    if (index < 0 || index >= count) {
        throw EnvironmentFault({}, "GPU (the option device)", "0.." + std::to_string(count - 1), std::to_string(index),
                               "see nvidia-smi");
    }
    cudaDeviceProp properties;
    check_cuda(cudaGetDeviceProperties(&properties, index), "the properties of the GPU");
    return {properties.name, std::to_string(properties.major) + '.' + std::to_string(properties.minor)};
}

}  // namespace packnet::detail
