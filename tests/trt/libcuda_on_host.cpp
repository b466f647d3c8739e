// A stand-in for the CUDA driver, NOT the real one: the calls that packnet_deploy.trt makes of it, on the host.
//
// It shows that Python's arguments arrive as the driver's C interface has them, that every handle is used and given
// back as it should be, and what an error becomes. Streams run everything at once. The environment's STAND_IN_FAILS
// names a call that fails.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels_on_host.cpp"

using std::size_t;
typedef int Result;

static const Result OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500;
static const int DEVICES = 2;
static const size_t TOTAL = size_t(8) << 30;

static int context_objects[DEVICES], stream_object, module_object;
static thread_local void* current = nullptr;
static void* context_of_stream = nullptr;  // of the latest
static std::map<void*, size_t> device_memory, host_memory;
static std::vector<std::function<void()>>* recording = nullptr;
static int live_streams, live_modules, live_contexts, live_graphs, live_recordings, live_events;

static bool fails(const char* call) {
    const char* named = std::getenv("STAND_IN_FAILS");
    return named && std::string(named) == call;
}

static Result enqueue(void* stream, std::function<void()> work) {
    if (stream != &stream_object || current != context_of_stream) return INVALID_CONTEXT;
    recording ? recording->push_back(work) : work();
    return OK;
}

static Result take(std::map<void*, size_t>& memory, void** address, size_t size) {
    if (!current) return INVALID_CONTEXT;
    if (size == 0) return INVALID_VALUE;
    *address = std::aligned_alloc(256, (size + 255) / 256 * 256);
    memory[*address] = size;
    return OK;
}

static Result give_back(std::map<void*, size_t>& memory, void* address) {
    if (!memory.erase(address)) return INVALID_VALUE;
    std::free(address);
    return OK;
}

static size_t used() {
    size_t sum = 0;
    for (auto& entry : device_memory) sum += entry.second;
    return sum;
}

template <typename T>
static T argument(void** parameters, int index) {
    T value;
    std::memcpy(&value, parameters[index], sizeof value);  // cuda-python packs them without gaps
    return value;
}

extern "C" {

// What a test asks at the end: everything that was not given back.
int stand_in_live() {
    return static_cast<int>(device_memory.size() + host_memory.size()) + live_streams + live_modules +
           live_graphs + live_recordings + live_events;
}

// Primary contexts stay as long as the process: how often one was taken.
int stand_in_contexts() { return live_contexts; }

// The number of the GPU whose context the latest stream is of.
int stand_in_gpu_of_stream() { return static_cast<int>(static_cast<int*>(context_of_stream) - context_objects); }

Result cuInit(unsigned) { return fails("cuInit") ? 100 : OK; }
Result cuDriverGetVersion(int* version) {
    *version = 13020;
    return OK;
}
Result cuDeviceGetCount(int* count) {
    *count = DEVICES;
    return OK;
}
Result cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return 0 <= ordinal && ordinal < DEVICES ? OK : INVALID_VALUE;
}
Result cuDeviceGetName(char* name, int size, int) {
    std::strncpy(name, "Stand-in GPU", size);
    return OK;
}
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == 75 ? 8 : 6;  // compute capability, major and minor
    return attribute == 75 || attribute == 76 ? OK : INVALID_VALUE;
}
Result cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = TOTAL;
    return OK;
}
Result cuDevicePrimaryCtxRetain(void** context, int device) {
    *context = &context_objects[device];
    ++live_contexts;
    return OK;
}
Result cuDevicePrimaryCtxRelease_v2(int) {
    --live_contexts;
    return OK;
}
Result cuCtxSetCurrent(void* context) {
    current = context;
    return OK;
}
Result cuMemGetInfo_v2(size_t* free, size_t* total) {
    *total = TOTAL;
    *free = TOTAL - used();
    return OK;
}

Result cuMemAlloc_v2(void** address, size_t size) {
    return used() + size > TOTAL ? OUT_OF_MEMORY : take(device_memory, address, size);
}
Result cuMemFree_v2(void* address) { return give_back(device_memory, address); }
Result cuMemHostAlloc(void** address, size_t size, unsigned flags) {
    return flags == 2 ? take(host_memory, address, size) : INVALID_VALUE;  // mapped, so that kernels may read it
}
Result cuMemHostGetDevicePointer_v2(void** address, void* host, unsigned flags) {
    *address = host;
    return flags == 0 ? OK : INVALID_VALUE;
}
Result cuMemFreeHost(void* address) { return give_back(host_memory, address); }
Result cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t size, void* stream) {
    return enqueue(stream, [=] { std::memcpy(to, from, size); });
}
Result cuMemcpyDtoHAsync_v2(void* to, void* from, size_t size, void* stream) {
    return enqueue(stream, [=] { std::memcpy(to, from, size); });
}
Result cuMemcpyAsync(void* to, const void* from, size_t size, void* stream) {
    return enqueue(stream, [=] { std::memcpy(to, from, size); });
}
Result cuMemsetD8Async(void* address, unsigned char value, size_t size, void* stream) {
    return enqueue(stream, [=] { std::memset(address, value, size); });
}

Result cuEventCreate(void** event, unsigned flags) {
    *event = new unsigned(flags);
    ++live_events;
    return flags == 0 || flags == 2 ? OK : INVALID_VALUE;  // with a time, and without
}
Result cuEventRecord(void* event, void* stream) { return event && stream != event ? OK : INVALID_VALUE; }
Result cuEventElapsedTime(float* ms, void* first, void* last) {
    *ms = 0.25f;
    return *static_cast<unsigned*>(first) == 0 && *static_cast<unsigned*>(last) == 0 ? OK : INVALID_VALUE;
}
Result cuStreamWaitEvent(void*, void* event, unsigned flags) { return event && flags == 0 ? OK : INVALID_VALUE; }
Result cuEventDestroy_v2(void* event) {
    delete static_cast<unsigned*>(event);
    --live_events;
    return OK;
}

Result cuStreamCreate(void** stream, unsigned flags) {
    *stream = &stream_object;
    context_of_stream = current;
    ++live_streams;
    return flags == 1 ? OK : INVALID_VALUE;  // one that does not wait for the default stream
}
Result cuStreamDestroy_v2(void*) {
    --live_streams;
    return OK;
}
Result cuStreamSynchronize(void* stream) {
    if (fails("cuStreamSynchronize")) return 700;
    return stream == &stream_object && !recording ? OK : INVALID_VALUE;
}

Result cuModuleLoadData(void** module, const void* image) {
    *module = &module_object;
    ++live_modules;
    return std::memcmp(image,
                       "\x7f"
                       "ELF",
                       4) == 0
               ? OK
               : INVALID_VALUE;
}
Result cuModuleUnload(void*) {
    --live_modules;
    return OK;
}
Result cuModuleGetFunction(void** function, void*, const char* name) {
    static const std::map<std::string, void*> kernels = {
        {"packnet_write_16", reinterpret_cast<void*>(write_16)},
        {"packnet_write_32", reinterpret_cast<void*>(write_32)},
        {"packnet_clear_16", reinterpret_cast<void*>(clear_16)},
        {"packnet_clear_32", reinterpret_cast<void*>(clear_32)},
    };
    auto found = kernels.find(name);
    if (found == kernels.end()) return NOT_FOUND;
    *function = found->second;
    return OK;
}
Result cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void* stream, void** p, void** extra) {
    if (gx == 0 || gy == 0 || gz != 1 || bx != kThreads || by != 1 || bz != 1 || shared || extra) return INVALID_VALUE;
    const bool writes =
        function == reinterpret_cast<void*>(write_16) || function == reinterpret_cast<void*>(write_32);
    const auto a = argument<void*>(p, 0), b = argument<void*>(p, 1), c = argument<void*>(p, 2);
    if (writes) {
        const auto d = argument<void*>(p, 3);
        const auto tiles = argument<std::uint32_t>(p, 4);
        const auto first = argument<std::uint64_t>(p, 5), last = argument<std::uint64_t>(p, 6);
        auto kernel = reinterpret_cast<void (*)(unsigned, unsigned, void*, void*, void*, void*, std::uint32_t,
                                                std::uint64_t, std::uint64_t)>(function);
        return enqueue(stream, [=] { kernel(gx, gy, a, b, c, d, tiles, first, last); });
    }
    const auto tiles = argument<std::uint32_t>(p, 3);
    const auto first = argument<std::uint64_t>(p, 4), last = argument<std::uint64_t>(p, 5);
    auto kernel = reinterpret_cast<void (*)(unsigned, unsigned, void*, void*, void*, std::uint32_t, std::uint64_t,
                                            std::uint64_t)>(function);
    return enqueue(stream, [=] { kernel(gx, gy, a, b, c, tiles, first, last); });
}

Result cuStreamBeginCapture_v2(void*, int mode) {
    recording = new std::vector<std::function<void()>>;
    ++live_recordings;
    return mode == 1 ? OK : INVALID_VALUE;  // of this thread alone
}
Result cuStreamEndCapture(void*, void** graph) {
    *graph = recording;
    recording = nullptr;
    return OK;
}
Result cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    *executable = new std::vector<std::function<void()>>(*static_cast<std::vector<std::function<void()>>*>(graph));
    ++live_graphs;
    return OK;
}
Result cuGraphExecUpdate_v2(void* executable, void* graph, void*) {
    auto& into = *static_cast<std::vector<std::function<void()>>*>(executable);
    auto& from = *static_cast<std::vector<std::function<void()>>*>(graph);
    if (into.size() != from.size()) return 910;  // another topology
    into = from;
    return OK;
}
Result cuGraphDestroy(void* graph) {
    delete static_cast<std::vector<std::function<void()>>*>(graph);
    --live_recordings;
    return OK;
}
Result cuGraphExecDestroy(void* graph) {
    delete static_cast<std::vector<std::function<void()>>*>(graph);
    --live_graphs;
    return OK;
}
Result cuGraphLaunch(void* graph, void* stream) {
    for (auto& work : *static_cast<std::vector<std::function<void()>>*>(graph)) enqueue(stream, work);
    return OK;
}

// NVRTC asks for private interfaces, and does without.
Result cuGetExportTable(const void**, const void*) { return NOT_FOUND; }

Result cuGetProcAddress_v2(const char* name, void** function, int, std::uint64_t, int* status) {
    static const std::map<std::string, void*> known = {
#define ENTRY(name, symbol) {name, reinterpret_cast<void*>(symbol)}
        ENTRY("cuInit", cuInit),
        ENTRY("cuDriverGetVersion", cuDriverGetVersion),
        ENTRY("cuDeviceGetCount", cuDeviceGetCount),
        ENTRY("cuDeviceGet", cuDeviceGet),
        ENTRY("cuDeviceGetName", cuDeviceGetName),
        ENTRY("cuDeviceGetAttribute", cuDeviceGetAttribute),
        ENTRY("cuDeviceTotalMem", cuDeviceTotalMem_v2),
        ENTRY("cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain),
        ENTRY("cuDevicePrimaryCtxRelease", cuDevicePrimaryCtxRelease_v2),
        ENTRY("cuCtxSetCurrent", cuCtxSetCurrent),
        ENTRY("cuMemGetInfo", cuMemGetInfo_v2),
        ENTRY("cuMemAlloc", cuMemAlloc_v2),
        ENTRY("cuMemFree", cuMemFree_v2),
        ENTRY("cuMemHostAlloc", cuMemHostAlloc),
        ENTRY("cuMemHostGetDevicePointer", cuMemHostGetDevicePointer_v2),
        ENTRY("cuMemFreeHost", cuMemFreeHost),
        ENTRY("cuMemcpyAsync", cuMemcpyAsync),
        ENTRY("cuMemsetD8Async", cuMemsetD8Async),
        ENTRY("cuMemcpyHtoDAsync", cuMemcpyHtoDAsync_v2),
        ENTRY("cuMemcpyDtoHAsync", cuMemcpyDtoHAsync_v2),
        ENTRY("cuEventCreate", cuEventCreate),
        ENTRY("cuEventRecord", cuEventRecord),
        ENTRY("cuStreamWaitEvent", cuStreamWaitEvent),
        ENTRY("cuEventElapsedTime", cuEventElapsedTime),
        ENTRY("cuEventDestroy", cuEventDestroy_v2),
        ENTRY("cuStreamCreate", cuStreamCreate),
        ENTRY("cuStreamDestroy", cuStreamDestroy_v2),
        ENTRY("cuStreamSynchronize", cuStreamSynchronize),
        ENTRY("cuModuleLoadData", cuModuleLoadData),
        ENTRY("cuModuleUnload", cuModuleUnload),
        ENTRY("cuModuleGetFunction", cuModuleGetFunction),
        ENTRY("cuLaunchKernel", cuLaunchKernel),
        ENTRY("cuStreamBeginCapture", cuStreamBeginCapture_v2),
        ENTRY("cuStreamEndCapture", cuStreamEndCapture),
        ENTRY("cuGraphInstantiateWithFlags", cuGraphInstantiateWithFlags),
        ENTRY("cuGraphExecUpdate", cuGraphExecUpdate_v2),
        ENTRY("cuGraphDestroy", cuGraphDestroy),
        ENTRY("cuGraphExecDestroy", cuGraphExecDestroy),
        ENTRY("cuGraphLaunch", cuGraphLaunch),
        ENTRY("cuGetProcAddress", cuGetProcAddress_v2),
    };
    auto found = known.find(name);
    *function = found == known.end() ? nullptr : found->second;
    if (status) *status = found == known.end() ? 1 : 0;
    return found == known.end() ? NOT_FOUND : OK;
}

}  // extern "C"
