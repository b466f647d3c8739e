/// @file
/// What plans of every switch mode have in common: TensorRT's engine, checked against the sidecar. By itself, a plan of
/// one task.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "context.h"
#include "plan.h"
#include "tensorrt.h"

namespace packnet::detail {

class TensorRtPlan : public LoadedPlan, public Plan {
public:
    TensorRtPlan(const PlanFile& file, const PlanOptions& options);

    int places() const override { return 0; }
    void fill(int, int) override {}
    void finish(int) override {}
    bool spoiled_by_failure() const override { return false; }
    std::unique_ptr<LoadedPlan::Context> make_context() override { return make_tensorrt_context(*this); }

    const std::string& name() const override { return name_; }
    const Sidecar& sidecar() const override { return sidecar_; }
    nvinfer1::ICudaEngine& engine() override { return *engine_; }
    bool records() const override { return records_; }
    std::vector<std::pair<const char*, void*>> bindings(const Batch&) const override { return {}; }
    std::uint64_t version() const override { return 0; }
    void hold_back(int, cudaStream_t) override {}
    void add_use(int, std::shared_ptr<Event>) override {}

protected:
    const std::string name_;
    const Sidecar sidecar_;
    const bool records_;
    TensorRtLog& log_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
};

}  // namespace packnet::detail
