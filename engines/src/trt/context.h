/// @file
/// One execution context of TensorRT: what it is bound to, batches on anybody's stream, CUDA graphs.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda.h"
#include "loaded_plan.h"
#include "sidecar.h"
#include "tensorrt.h"

namespace packnet::detail {

/// What contexts ask of the plan that they run.
class Plan {
public:
    virtual ~Plan() = default;

    virtual const std::string& name() const = 0;
    virtual const Sidecar& sidecar() const = 0;
    virtual nvinfer1::ICudaEngine& engine() = 0;

    /// Whether batches may be recorded as CUDA graphs.
    virtual bool records() const = 0;

    /// Inputs beside the images, and where they lie for a batch.
    virtual std::vector<std::pair<const char*, void*>> bindings(const Batch& batch) const = 0;

    /// How often the engine's own weights have been replaced: graphs that were recorded before are of no use.
    virtual std::uint64_t version() const = 0;

    /// What is enqueued on `stream` from now on begins after the place has been filled.
    virtual void hold_back(int place, cudaStream_t stream) = 0;

    /// The next fill of the place begins after `done`, as it was recorded last.
    virtual void add_use(int place, std::shared_ptr<Event> done) = 0;
};

std::unique_ptr<LoadedPlan::Context> make_tensorrt_context(Plan& plan);

}  // namespace packnet::detail
