#include "switched_plan.h"

#include <algorithm>
#include <utility>

namespace packnet::detail {

SwitchedPlan::SwitchedPlan(const PlanFile& file, const PlanOptions& options, int places) : TensorRtPlan(file, options) {
    for (int i = 0; i < places; ++i) places_.push_back(std::make_unique<Place>());
}

void SwitchedPlan::add_use(int place, std::shared_ptr<Event> done) {
    const std::lock_guard<std::mutex> lock(uses_mutex_);
    auto& uses = at(place).uses;
    if (std::find(uses.begin(), uses.end(), done) == uses.end()) uses.push_back(std::move(done));
}

std::vector<std::shared_ptr<Event>> SwitchedPlan::take_uses(int place) {
    const std::lock_guard<std::mutex> lock(uses_mutex_);
    return std::exchange(at(place).uses, {});
}

}  // namespace packnet::detail
