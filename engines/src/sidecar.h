/// @file
/// A plan's sidecar, parsed from bytes, so that it can be tested and fuzzed without a disk.
#pragma once

#include "mapped_file.h"
#include "packnet/sidecar.h"

namespace packnet::detail {

/// @param name     of the file, for messages.
/// @throws Error   malformed, of another version, or contradicting itself.
Sidecar parse_sidecar(const std::string& name, Bytes file);

}  // namespace packnet::detail
