// Masking on the GPU: the bank and its ranks lie there, and a switch is one launch for each weight.

#include "../mask.cu"
#include "switcher.h"

namespace packnet::detail {
namespace {

constexpr unsigned kThreads = 256;  // of a block

unsigned blocks(std::size_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

class GpuSwitcher : public Switcher {
public:
    GpuSwitcher(EngineBank bank, const Stream& stream) : bank_(std::move(bank)) {
        for (std::size_t i = 0; i < bank_.weights().size(); ++i) {
            const SwitchedWeight& weight = bank_.weights()[i];
            values_.emplace_back(weight.banked ? weight.bytes() : 0, "memory for the weight bank");
            ranks_.emplace_back(weight.banked ? weight.size : 0, "memory for the weight bank");
            if (!weight.banked) continue;
            stream.copy(values_.back().as<void>(), bank_.values(i), weight.bytes());
            stream.copy(ranks_.back().as<void>(), bank_.ranks(i), weight.size);
        }
        stream.wait();
        bank_.drop_bank();
    }

    void enqueue(const WeightBuffer& buffer, int task, const Stream& stream) override {
        for (std::size_t i = 0; i < buffer.addresses().size(); ++i) {
            const SwitchedWeight& weight = bank_.weights()[i];
            std::byte* const out = buffer.addresses()[i];
            if (weight.banked) {
                mask(weight, out, i, static_cast<u32>(task), stream.get());
            } else {
                stream.copy(out, bank_.tensor(task, i), weight.bytes());
            }
        }
        check_cuda(cudaGetLastError(), "masking the bank");
    }

private:
    void mask(const SwitchedWeight& weight, std::byte* out, std::size_t i, u32 task, cudaStream_t stream) const {
        const u8* ranks = ranks_[i].as<u8>();
        if (weight.dtype == Precision::fp32) {  // 16 bytes a thread
            packnet_mask_32<<<blocks((weight.size + 3) / 4), kThreads, 0, stream>>>(
                reinterpret_cast<u32*>(out), values_[i].as<u32>(), ranks, weight.size, task);
        } else {
            packnet_mask_16<<<blocks((weight.size + 7) / 8), kThreads, 0, stream>>>(
                reinterpret_cast<u16*>(out), values_[i].as<u16>(), ranks, weight.size, task);
        }
    }

    EngineBank bank_;                           // without values and ranks
    std::vector<DeviceMemory> values_, ranks_;  // by weight; empty where it is not banked
};

}  // namespace

std::unique_ptr<Switcher> make_switcher(EngineBank bank, packnet_bank where, const Stream& stream) {
    if (where == PACKNET_BANK_HOST) return make_host_switcher(std::move(bank));
    return std::make_unique<GpuSwitcher>(std::move(bank), stream);
}

}  // namespace packnet::detail
