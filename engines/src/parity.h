/// @file
/// How far logits may lie from those that the training framework gave: export/parity.py's measure.
#pragma once

#include <vector>

#include "packnet/packnet.h"
#include "sidecar.h"

namespace packnet::detail {

/// Allowed is a share of the largest expected logit, by the precision. NaN or an infinity is never within it.
packnet_difference difference_of(const std::vector<float>& got, const std::vector<float>& expected,
                                 Precision precision);

}  // namespace packnet::detail
