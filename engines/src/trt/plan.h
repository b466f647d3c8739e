/// @file
/// A plan deserialised by TensorRT, in any of its switch modes.
#pragma once

#include <memory>
#include <string>

#include "mapped_file.h"
#include "packnet/deltas.h"
#include "packnet/sidecar.h"
#include "session.h"

namespace packnet::detail {

/// @param name    of the plan's file, for messages.
/// @param plan    its bytes, checked; not needed afterwards.
/// @param deltas  of the pack; not needed afterwards.
/// @throws Error  TensorRT cannot load it, or it has other inputs, outputs or weights than the sidecar says.
std::unique_ptr<LoadedPlan> load_plan(const std::string& name, Bytes plan, const Sidecar& sidecar, const Deltas& deltas,
                                      unsigned threads);

}  // namespace packnet::detail
