#include "placed_bank.h"

#include <cstring>
#include <utility>
#include <vector>

#include "kernels.h"

namespace packnet::detail {
namespace {

constexpr const char* kMemory = "memory for the weight bank";

/// All tasks', one behind the other.
std::vector<std::byte> joined(const std::vector<std::vector<std::byte>>& own) {
    std::vector<std::byte> all;
    for (const std::vector<std::byte>& of_task : own) all.insert(all.end(), of_task.begin(), of_task.end());
    return all;
}

/// Kernels read the parts of the bank where they lie.
class BankOfKernels : public PlacedBank {
public:
    BankOfKernels(const EngineWeights& weights, const Placement& placement, const Stream& stream)
        : PlacedBank(weights.layout, joined(weights.own), placement.own, stream),
          tiles_(weights.bank.tiles),
          values_(weights.bank.values.data(), weights.bank.values.size(), placement.values, stream),
          masks_(weights.bank.masks.data(), weights.bank.masks.size() * 4, placement.positions, stream),
          before_(weights.bank.before.data(), weights.bank.before.size() * 4, true, stream) {}

    void enqueue_banked(std::byte* out, Span span, int source, int target, const Stream& stream) override {
        const Between owners = between(source, target);
        if (owners.owners() == 0 || span.size() == 0) return;
        const auto row = static_cast<std::size_t>(owners.first);
        launch({out, owners.up ? values_.as<std::byte>() : nullptr, masks_.as<std::uint32_t>() + row * tiles_ * kWords,
                before_.as<std::uint32_t>() + row * (tiles_ + 1), tiles_, owners.owners(), span, layout().item},
               stream);
    }

private:
    const std::size_t tiles_;
    const PlacedBytes values_, masks_, before_;
};

/// Without kernels: one task's weights in page-locked memory, from where they are copied.
class BankOfTheHost : public PlacedBank {
public:
    BankOfTheHost(EngineWeights weights, const Placement& placement, const Stream& stream)
        : PlacedBank(weights.layout, joined(weights.own), placement.own, stream),
          bank_(std::move(weights.bank)),
          memory_(layout().banked * layout().item, "page-locked memory for one task's weights") {
        std::memset(memory_.as<std::byte>(), 0, layout().banked * layout().item);
    }

    ~BankOfTheHost() override { copied_.wait_quietly(); }

    void enqueue_banked(std::byte* out, Span span, int, int target, const Stream& stream) override {
        if (target != task_) {
            copied_.wait();
            switch_in_place(memory_.as<std::byte>(), bank_, layout().item, std::exchange(task_, target), target);
        }
        stream.copy(out, memory_.as<std::byte>() + span.first * layout().item, span.size() * layout().item);
        copied_.record(stream.get());
    }

private:
    const OrderedBank bank_;
    PinnedMemory memory_;
    int task_ = 0;  // whose weights lie there
    Event copied_;
};

}  // namespace

PlacedBytes::PlacedBytes(const void* from, std::size_t bytes, bool on_gpu, const Stream& stream)
    : there_(on_gpu ? bytes : 0, kMemory), here_(on_gpu ? 0 : bytes, kMemory), address_(there_.as<void>()) {
    if (bytes == 0) return;
    if (on_gpu) {
        stream.copy(there_.as<void>(), from, bytes);
        stream.wait();
        return;
    }
    std::memcpy(here_.as<void>(), from, bytes);
    address_ = address_on_gpu(here_);
}

PlacedBank::PlacedBank(const Layout& layout, const std::vector<std::byte>& own, bool own_on_gpu, const Stream& stream)
    : layout_(layout), own_(own.data(), own.size(), own_on_gpu, stream) {}

void PlacedBank::enqueue_own(std::byte* out, Span span, int task, const Stream& stream) const {
    const std::size_t of_task = layout_.count - layout_.banked;
    const std::size_t start = (static_cast<std::size_t>(task) - 1) * of_task + span.first - layout_.banked;
    stream.copy(out, own_.as<std::byte>() + start * layout_.item, span.size() * layout_.item);
}

std::unique_ptr<PlacedBank> place_bank(EngineWeights weights, const Placement& placement, const Stream& stream) {
    if (has_kernels()) return std::make_unique<BankOfKernels>(weights, placement, stream);
    if (placement.values) {
        throw EnvironmentFault({}, "bank (the option bank)", "kernels that read it on the GPU", "none in this library",
                               "build it with a CUDA compiler, or leave the bank on the host");
    }
    return std::make_unique<BankOfTheHost>(std::move(weights), placement, stream);
}

}  // namespace packnet::detail
