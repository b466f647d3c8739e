/// @file
/// A plan whose weights are inputs: each place has a buffer of its own, a request reads its place's.
#pragma once

#include <vector>

#include "switched_plan.h"
#include "weight_buffer.h"

namespace packnet::detail {

class BindPlan : public SwitchedPlan {
public:
    BindPlan(const PlanFile& file, const PlanOptions& options, EngineWeights weights);

    ~BindPlan() override { end_fills(); }

    void fill(int place, int task) override;
    std::vector<std::pair<const char*, void*>> bindings(const Batch& batch) const override;

private:
    std::unique_ptr<PlacedBank> bank_;
    std::vector<WeightBuffer> buffers_;  // by place
};

}  // namespace packnet::detail
