#include "cuda.h"

namespace packnet::detail {

void check_cuda(cudaError_t code, const char* what) {
    if (code == cudaSuccess) return;
    throw EnvironmentFault({}, std::string("CUDA, ") + what, "success", cudaGetErrorString(code),
                           code == cudaErrorMemoryAllocation ? "free memory on the GPU" : "see nvidia-smi");
}

CudaDevice first_gpu() {
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0) {
        throw EnvironmentFault({}, "running a plan", "an NVIDIA GPU and its driver",
                               code == cudaSuccess ? "none" : cudaGetErrorString(code),
                               "install the driver, or a newer one; see nvidia-smi");
    }
    cudaDeviceProp properties;
    check_cuda(cudaGetDeviceProperties(&properties, 0), "the properties of the GPU");
    return {properties.name, std::to_string(properties.major) + '.' + std::to_string(properties.minor)};
}

}  // namespace packnet::detail
