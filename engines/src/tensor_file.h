/// @file
/// The header of a safetensors file (https://github.com/huggingface/safetensors#format), every offset checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "mapped_file.h"

namespace packnet::detail {

enum class Dtype { f32, f16, bf16, u8 };

std::size_t item_size(Dtype dtype);
const char* name_of(Dtype dtype);

/// One tensor of a file: `size` items in C order at `data`, which may have any alignment.
struct TensorEntry {
    Dtype dtype;
    std::vector<std::int64_t> shape;
    std::size_t size;
    const std::byte* data;

    Bytes bytes() const { return {data, size * item_size(dtype)}; }
};

struct TensorFile {
    std::string path;  // for messages
    std::map<std::string, std::string> metadata;
    std::map<std::string, TensorEntry, std::less<>> entries;

    const TensorEntry* find(std::string_view name) const;
};

/// Read the header. The entries point into `file`, which must outlive them.
/// @throws Error  truncated, malformed, or a name, dtype or shape that no delta has.
TensorFile parse_tensor_file(std::string path, Bytes file);

}  // namespace packnet::detail
