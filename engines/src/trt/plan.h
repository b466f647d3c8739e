/// @file
/// A plan deserialised by TensorRT, in any of its switch modes.
#pragma once

#include <memory>
#include <string>

#include "loaded_plan.h"
#include "mapped_file.h"
#include "packnet/deltas.h"
#include "sidecar.h"

namespace packnet::detail {

/// A plan that has been checked, and not been deserialised.
struct PlanFile {
    std::string name;  // for messages
    Bytes bytes;       // not needed once it is loaded
    const Sidecar& sidecar;
};

/// How a plan is to be run: what packnet_options says of it.
struct PlanOptions {
    bool bank_on_device;
    int resident;
    bool records;  // CUDA graphs
    unsigned threads;
};

/// @param deltas  of the pack; not needed afterwards.
/// @throws Error  TensorRT cannot load it, or it has other inputs, outputs or weights than the sidecar says.
std::unique_ptr<LoadedPlan> load_plan(const PlanFile& file, const Deltas& deltas, const PlanOptions& options);

}  // namespace packnet::detail
