/// @file
/// Normalisation as a scale and a shift, as export/norms.py has it: float64, the same operations in the same order,
/// rounded once, so that the results are equal by the bit.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "packnet/deltas.h"
#include "sidecar.h"

namespace packnet::detail {

using Tensors = std::map<std::string, Tensor>;

/// One task's side: scales and shifts appear in `tensors`, the normalisation that nothing else reads leaves it.
/// @throws Error   a norm names a tensor that is not there, or one of another size.
void unfold_norms_in_place(const std::vector<Norm>& norms, Tensors& tensors);

}  // namespace packnet::detail
