// Masking on the host, by all its threads, and a copy through page-locked memory.

#include "switcher.h"

namespace packnet::detail {
namespace {

class HostSwitcher : public Switcher {
public:
    explicit HostSwitcher(EngineBank bank) : bank_(std::move(bank)) {
        for (const SwitchedWeight& weight : bank_.weights()) {
            staging_.emplace_back(weight.bytes(), "page-locked memory for one task's weights");
            staged_.push_back(staging_.back().as<std::byte>());
        }
    }

    ~HostSwitcher() override { copied_.wait_quietly(); }

    void enqueue(const WeightBuffer& buffer, int task, const Stream& stream) override {
        copied_.wait();  // the task of before was staged in the same memory
        bank_.materialise(task, staged_);
        for (std::size_t i = 0; i < staged_.size(); ++i) {
            stream.copy(buffer.addresses()[i], staged_[i], bank_.weights()[i].bytes());
        }
        copied_.record(stream.get());
    }

private:
    const EngineBank bank_;
    std::vector<PinnedMemory> staging_;
    std::vector<std::byte*> staged_;
    Event copied_;
};

}  // namespace

std::unique_ptr<Switcher> make_host_switcher(EngineBank bank) {
    return std::make_unique<HostSwitcher>(std::move(bank));
}

}  // namespace packnet::detail
