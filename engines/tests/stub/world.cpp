// Failures on demand, counts, and the GPUs: what every call of the stand-in begins with.

#include "world.h"

#include <cstdio>
#include <cstdlib>

namespace {

constexpr int kDevices = 2;

}  // namespace

StubWorld& stub_world() {
    static StubWorld* const world = new StubWorld;  // streams may outlive everything else
    return *world;
}

thread_local StubThread stub_thread;

cudaError_t stub_answer(cudaError_t code) {
    if (code != cudaSuccess) stub_thread.last_error = code;
    return code;
}

void stub_abort(const char* why) {
    std::fprintf(stderr, "stand-in: %s\n", why);
    std::abort();
}

bool stub_fails(const char* call) {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    const auto found = stub_world().failures.find(call);
    if (found == stub_world().failures.end() || --found->second.first > 0) return false;
    if (--found->second.second <= 0) stub_world().failures.erase(found);
    return true;
}

void stub_fail(const char* call, int nth, int times) {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    stub_world().failures[call] = {nth, times};
}

void stub_heal() {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    stub_world().failures.clear();
}

void stub_delay(int microseconds) { stub_world().delay = microseconds; }
int stub_live() { return stub_world().live; }
void stub_alive(int change) { stub_world().live += change; }

StubCounts stub_counts() {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    return stub_world().counts;
}

StubCounts operator-(StubCounts after, const StubCounts& before) {
    using Counts = StubCounts;
    for (const auto what :
         {&Counts::launches, &Counts::graph_launches, &Counts::contexts, &Counts::deserialised, &Counts::refits,
          &Counts::refitted, &Counts::refitted_from_host, &Counts::unvalidated, &Counts::copies, &Counts::copied,
          &Counts::switches, &Counts::written, &Counts::values, &Counts::positions}) {
        after.*what -= before.*what;
    }
    return after;
}

void stub_count(std::size_t StubCounts::* what, std::size_t more) {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    stub_world().counts.*what += more;
}

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
    const cudaError_t last = stub_thread.last_error;
    stub_thread.last_error = cudaSuccess;
    return last;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = kDevices;
    return stub_fails("cudaGetDeviceCount") ? stub_answer(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = stub_thread.device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= kDevices) return stub_answer(cudaErrorInvalidDevice);
    stub_thread.device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    std::snprintf(properties->name, sizeof properties->name, "stand-in %d", device);
    properties->major = 8;
    properties->minor = device == 0 ? 6 : 9;
    return cudaSuccess;
}

}  // extern "C"
