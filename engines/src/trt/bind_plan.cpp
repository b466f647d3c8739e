#include "bind_plan.h"

#include <utility>

namespace packnet::detail {

BindPlan::BindPlan(const PlanFile& file, const PlanOptions& options, EngineWeights weights)
    : SwitchedPlan(file, options, options.resident) {
    const Placement placement = place(sizes_of(weights), Switch::bind, options.bank_on_device);
    bank_ = place_bank(std::move(weights), placement, stream_);
    for (int i = 0; i < options.resident; ++i) buffers_.emplace_back(bank_->layout());
}

void BindPlan::fill(int place, int task) {
    const std::lock_guard<std::mutex> lock(fill_mutex_);
    for (const std::shared_ptr<Event>& use : take_uses(place)) use->hold_back(stream_.get());
    buffers_[static_cast<std::size_t>(place)].enqueue(*bank_, task, stream_);
    record_fill(place);
}

std::vector<std::pair<const char*, void*>> BindPlan::bindings(const Batch& batch) const {
    std::vector<std::pair<const char*, void*>> all;
    const std::vector<std::byte*>& addresses = buffers_[static_cast<std::size_t>(batch.place)].addresses();
    for (std::size_t i = 0; i < addresses.size(); ++i) all.emplace_back(sidecar_.weights[i].name.c_str(), addresses[i]);
    return all;
}

}  // namespace packnet::detail
