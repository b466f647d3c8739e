/// @file
/// pack.json: parsed from bytes, so that it can be tested and fuzzed without a disk.
#pragma once

#include "mapped_file.h"
#include "packnet/pack.h"

namespace packnet::detail {

/// @param path  the pack's folder, for messages and for the result.
/// @throws Error  malformed, of another version, or contradicting itself.
Pack parse_manifest(const std::filesystem::path& path, Bytes file);

}  // namespace packnet::detail
