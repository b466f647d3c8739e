#include "tensorrt_plan.h"

#include "tensors.h"

namespace packnet::detail {

TensorRtPlan::TensorRtPlan(const PlanFile& file, const PlanOptions& options)
    : name_(file.name),
      sidecar_(file.sidecar),
      records_(options.records),
      log_(TensorRtLog::instance()),
      runtime_(nvinfer1::createInferRuntime(log_)) {
    log_.check(runtime_ != nullptr, name_, "its runtime");
    engine_.reset(runtime_->deserializeCudaEngine(file.bytes.data, file.bytes.size));
    log_.check(engine_ != nullptr, name_, "reading the plan");
    check_tensors(name_, *engine_, sidecar_);
}

}  // namespace packnet::detail
