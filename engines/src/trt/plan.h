/// @file
/// A plan deserialised by TensorRT, in any of its switch modes.
#pragma once

#include <memory>
#include <string>

#include "loaded_plan.h"
#include "mapped_file.h"
#include "packnet/deltas.h"
#include "packnet/packnet.h"
#include "sidecar.h"

namespace packnet::detail {

/// How a plan is to be run: what packnet_options says of it.
struct PlanOptions {
    packnet_bank bank;
    int resident;
    bool records;  // CUDA graphs
    unsigned threads;
};

/// @param name    of the plan's file, for messages.
/// @param plan    its bytes, checked; not needed afterwards.
/// @param deltas  of the pack; not needed afterwards.
/// @throws Error  TensorRT cannot load it, or it has other inputs, outputs or weights than the sidecar says.
std::unique_ptr<LoadedPlan> load_plan(const std::string& name, Bytes plan, const Sidecar& sidecar, const Deltas& deltas,
                                      const PlanOptions& options);

}  // namespace packnet::detail
