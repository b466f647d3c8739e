// Memory of the GPU and of the host, and copies between them.

#include <cstdlib>
#include <cstring>
#include <memory>

#include "world.h"

namespace {

constexpr std::uintptr_t kGpu = std::uintptr_t{1} << 62;     // added to what the host may not touch
constexpr std::uintptr_t kMapped = std::uintptr_t{1} << 61;  // added to page-locked memory: its address for the GPU
constexpr std::size_t kAlignment = 256;

using Memory = std::map<std::uintptr_t, std::size_t>;

/// Whether `bytes` bytes from an address on were allocated.
bool holds(const Memory& memory, std::uintptr_t address, std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    const auto after = memory.upper_bound(address);
    if (after == memory.begin()) return false;
    const auto& [base, size] = *std::prev(after);
    return address + bytes <= base + size;
}

bool is_gpus(const void* address) { return reinterpret_cast<std::uintptr_t>(address) >= kMapped; }

/// Whether a copy may read or write there when the stream comes to it.
bool is_lasting(const void* address) {
    return is_gpus(address) || holds(stub_world().pinned_memory, reinterpret_cast<std::uintptr_t>(address), 1);
}

cudaError_t take(Memory& memory, void** address, std::size_t bytes, std::uintptr_t add) {
    void* const got = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    std::memset(got, 0xa5, bytes);  // what nobody has written is no zero
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    memory[reinterpret_cast<std::uintptr_t>(got)] = bytes;
    ++stub_world().live;
    *address = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(got) + add);
    return cudaSuccess;
}

cudaError_t give_back(Memory& memory, void* address, std::uintptr_t added) {
    if (!address) return cudaSuccess;
    const auto base = reinterpret_cast<std::uintptr_t>(address) - added;
    {
        const std::lock_guard<std::mutex> lock(stub_world().mutex);
        if (!memory.erase(base)) return cudaErrorInvalidValue;
    }
    --stub_world().live;
    std::free(reinterpret_cast<void*>(base));
    return cudaSuccess;
}

}  // namespace

std::byte* stub_resolve(const void* address, std::size_t bytes) {
    const auto given = reinterpret_cast<std::uintptr_t>(address);
    if (given < kMapped) stub_abort("an address of the host, where one of the GPU is needed");
    const bool mapped = given < kGpu;
    const std::uintptr_t place = given - (mapped ? kMapped : kGpu);
    if (!holds(mapped ? stub_world().pinned_memory : stub_world().device_memory, place, bytes))
        stub_abort("an access beyond what was allocated");
    return reinterpret_cast<std::byte*>(place);
}

std::size_t stub_device_bytes() {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    std::size_t sum = stub_world().engine_bytes;
    for (const auto& [base, size] : stub_world().device_memory) sum += size;
    return sum;
}

void stub_engine_bytes(std::ptrdiff_t change) {
    const std::lock_guard<std::mutex> lock(stub_world().mutex);
    stub_world().engine_bytes += static_cast<std::size_t>(change);
}

extern "C" {

cudaError_t cudaMalloc(void** address, size_t bytes) {
    if (stub_thread.capturing) {
        stub_thread.capturing->spoilt = true;
        return stub_answer(cudaErrorStreamCaptureUnsupported);
    }
    if (stub_fails("cudaMalloc")) return stub_answer(cudaErrorMemoryAllocation);
    return take(stub_world().device_memory, address, bytes, kGpu);
}
cudaError_t cudaFree(void* address) { return stub_answer(give_back(stub_world().device_memory, address, kGpu)); }

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned flags) {
    if (!(flags & cudaHostAllocMapped) || !(flags & cudaHostAllocPortable)) return stub_answer(cudaErrorInvalidValue);
    if (stub_fails("cudaHostAlloc")) return stub_answer(cudaErrorMemoryAllocation);
    return take(stub_world().pinned_memory, address, bytes, 0);
}
cudaError_t cudaFreeHost(void* address) { return stub_answer(give_back(stub_world().pinned_memory, address, 0)); }

cudaError_t cudaHostGetDevicePointer(void** address, void* host, unsigned flags) {
    const auto place = reinterpret_cast<std::uintptr_t>(host);
    if (flags || !holds(stub_world().pinned_memory, place, 1)) return stub_answer(cudaErrorInvalidValue);
    *address = reinterpret_cast<void*>(place + kMapped);
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t stream) {
    if (stub_fails("cudaMemcpyAsync")) return stub_answer(cudaErrorUnknown);
    if (width > to_pitch || width > from_pitch) return stub_answer(cudaErrorInvalidValue);
    if (width == 0 || height == 0) return cudaSuccess;
    stub_count(&StubCounts::copies);
    stub_count(&StubCounts::copied, width * height);
    std::shared_ptr<std::vector<std::byte>> staged;
    if (!is_lasting(from)) {
        const auto* const bytes = static_cast<const std::byte*>(from);
        staged = std::make_shared<std::vector<std::byte>>(bytes, bytes + from_pitch * (height - 1) + width);
    }
    const cudaError_t code = stub_enqueue(stream, [=] {
        const std::byte* source = staged          ? staged->data()
                                  : is_gpus(from) ? stub_resolve(from, from_pitch * (height - 1) + width)
                                                  : static_cast<const std::byte*>(from);
        std::byte* target =
            is_gpus(to) ? stub_resolve(to, to_pitch * (height - 1) + width) : static_cast<std::byte*>(to);
        for (size_t row = 0; row < height; ++row) {
            std::memcpy(target + row * to_pitch, source + row * from_pitch, width);
        }
    });
    if (code == cudaSuccess && !is_lasting(to) && !stream->is_capturing) stream->drain();
    return code;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
    if (bytes == 0) return cudaSuccess;
    return stub_enqueue(stream, [=] { std::memset(stub_resolve(to, bytes), value, bytes); });
}

}  // extern "C"
