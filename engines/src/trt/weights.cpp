#include "weights.h"

namespace packnet::detail {
namespace {

constexpr std::size_t kAlignment = 256;  // bytes; what TensorRT asks of the addresses of inputs

}  // namespace

WeightBuffer::WeightBuffer(EngineBank bank, const Stream& stream) : bank_(std::move(bank)) {
    std::size_t bytes = 0;
    std::vector<std::size_t> places;
    for (const SwitchedWeight& weight : weights()) {
        places.push_back(bytes);
        bytes += (weight.bytes() + kAlignment - 1) / kAlignment * kAlignment;
    }
    memory_ = DeviceMemory(bytes, "memory for one task's weights");
    for (std::size_t place : places) addresses_.push_back(memory_.as<std::byte>() + place);
    masking_ = make_masking(bank_, stream);
}

void WeightBuffer::fill(int task, const Stream& stream) {
    masking_->enqueue(task, addresses_, stream);
    for (std::size_t i = 0; i < addresses_.size(); ++i) {
        if (weights()[i].banked) continue;
        stream.copy(addresses_[i], bank_.tensor(task, i), weights()[i].bytes());
    }
}

}  // namespace packnet::detail
