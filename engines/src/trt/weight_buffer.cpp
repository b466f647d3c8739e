#include "weight_buffer.h"

#include <utility>

namespace packnet::detail {

WeightBuffer::WeightBuffer(const Layout& layout) : memory_(layout.bytes(), "memory for one task's weights") {
    for (std::size_t start : layout.starts) addresses_.push_back(memory_.as<std::byte>() + start * layout.item);
}

void WeightBuffer::enqueue(PlacedBank& bank, int task, const Stream& stream) {
    const Layout& layout = bank.layout();
    std::byte* const out = memory_.as<std::byte>();
    int source = std::exchange(task_, kNobodyKnows);
    if (source == kNobodyKnows) {
        stream.clear(out, layout.banked * layout.item);
        source = 0;
    }
    bank.enqueue_banked(out, {0, layout.banked}, source, task, stream);
    bank.enqueue_own(out + layout.banked * layout.item, {layout.banked, layout.count}, task, stream);
    task_ = task;
}

}  // namespace packnet::detail
