// Where no CUDA compiler was at hand: weights are masked on the host, by all its threads, and copied.

#include "weights.h"

namespace packnet::detail {
namespace {

class HostMasking : public Masking {
public:
    explicit HostMasking(const EngineBank& bank) : bank_(bank) {
        for (const SwitchedWeight& weight : bank.weights()) {
            staging_.emplace_back(weight.bytes(), "page-locked memory for one task's weights");
            staged_.push_back(staging_.back().as<std::byte>());
        }
    }

    void enqueue(int task, const std::vector<std::byte*>& addresses, const Stream& stream) override {
        bank_.materialise(task, staged_);
        for (std::size_t i = 0; i < staged_.size(); ++i) {
            if (bank_.weights()[i].banked) stream.copy(addresses[i], staged_[i], bank_.weights()[i].bytes());
        }
        stream.wait();  // the next task is staged in the same memory
    }

private:
    const EngineBank& bank_;
    std::vector<PinnedMemory> staging_;
    std::vector<std::byte*> staged_;
};

}  // namespace

std::unique_ptr<Masking> make_masking(EngineBank& bank, const Stream&) { return std::make_unique<HostMasking>(bank); }

}  // namespace packnet::detail
