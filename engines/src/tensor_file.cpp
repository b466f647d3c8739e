#include "tensor_file.h"

#include <algorithm>
#include <utility>

#include "json.h"
#include "limits.h"
#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr const char* kNotWhole = "not a whole safetensors file";

struct DtypeTraits {
    const char* code;  // in the header
    Dtype dtype;
    std::size_t bytes;
    const char* name;
};
constexpr DtypeTraits kDtypes[] = {{"F32", Dtype::f32, 4, "float32"},
                                   {"F16", Dtype::f16, 2, "float16"},
                                   {"BF16", Dtype::bf16, 2, "bfloat16"},
                                   {"U8", Dtype::u8, 1, "uint8"}};

const DtypeTraits& traits(Dtype dtype) {
    return *std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const auto& t) { return t.dtype == dtype; });
}

std::uint64_t read_length(Bytes file) {
    std::uint64_t length = 0;
    for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(file.data[i]);
    return length;
}

/// A list of numbers of the header: shapes, offsets.
std::vector<std::int64_t> numbers(const Json& tensor, const char* field, const std::string& path,
                                  const std::string& name) {
    const auto found = tensor.find(field);
    std::vector<std::int64_t> result;
    if (found == tensor.end() || !found->is_array()) throw Error(path, kNotWhole, {}, {}, name + " has no " + field);
    for (const Json& number : *found) {
        const bool fits = number.is_number_unsigned() && number.get<std::uint64_t>() <= INT64_MAX;
        if (!fits) throw Error(path, "tensor " + name + ": " + field, "sizes", shown(number));
        result.push_back(number.get<std::int64_t>());
    }
    return result;
}

struct Placed {
    std::int64_t begin, end;
    std::string name;
    TensorEntry entry;
};

Placed parse_entry(const std::string& path, const std::string& name, const Json& tensor) {
    const std::string where = in_quotes(name);
    if (!is_printable(name)) throw Error(path, "tensor " + where + ": its name has control characters");
    if (!tensor.is_object()) throw Error(path, "tensor " + where, "an object", shown(tensor));
    const Json code = tensor.value("dtype", Json());
    const auto known =
        std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const auto& t) { return code == t.code; });
    if (known == std::end(kDtypes))
        throw Error(path, "tensor " + where + ": dtype", "F32, F16, BF16 or U8", shown(code));
    std::vector<std::int64_t> shape = numbers(tensor, "shape", path, where);
    const auto size = size_of(shape);
    if (!size) throw Error(path, "tensor " + where + ": no network has a shape like", {}, listed(shape).substr(0, 80));
    const std::vector<std::int64_t> offsets = numbers(tensor, "data_offsets", path, where);
    if (offsets.size() != 2 || offsets[0] > offsets[1] ||
        static_cast<std::uint64_t>(offsets[1] - offsets[0]) != *size * known->bytes) {
        throw Error(path, kNotWhole, {}, {}, "tensor " + where + ": its offsets do not fit its shape");
    }
    return {offsets[0], offsets[1], name, {known->dtype, std::move(shape), *size, nullptr}};
}

std::map<std::string, std::string> parse_metadata(const std::string& path, const Json& header) {
    std::map<std::string, std::string> metadata;
    const auto found = header.find("__metadata__");
    if (found == header.end() || found->is_null()) return metadata;
    if (!found->is_object()) throw Error(path, "__metadata__", "an object", shown(*found));
    for (const auto& [key, value] : found->items()) {
        if (!value.is_string()) throw Error(path, "__metadata__: " + in_quotes(key), "a text", shown(value));
        metadata[key] = value.get<std::string>();
    }
    return metadata;
}

}  // namespace

std::size_t item_size(Dtype dtype) { return traits(dtype).bytes; }
const char* name_of(Dtype dtype) { return traits(dtype).name; }

const TensorEntry* TensorFile::find(std::string_view name) const {
    const auto found = entries.find(name);
    return found == entries.end() ? nullptr : &found->second;
}

TensorFile parse_tensor_file(std::string path, Bytes file) {
    if (file.size < kLengthBytes) throw Error(path, kNotWhole, "at least 8 bytes", std::to_string(file.size));
    const std::uint64_t length = read_length(file);
    if (length > kMaxHeaderBytes || length > file.size - kLengthBytes) {
        throw Error(path, kNotWhole, {}, {}, "its header claims " + std::to_string(length) + " bytes");
    }
    const std::string_view text = file.text().substr(kLengthBytes, length);
    if (text.substr(0, 1) != "{") throw Error(path, kNotWhole, {}, {}, "its header does not begin with {");
    const Json header = parse_json(text, path, kNotWhole);

    TensorFile result{std::move(path), parse_metadata(path, header), {}};
    std::vector<Placed> tensors;
    for (const auto& [name, tensor] : header.items()) {
        if (name != "__metadata__") tensors.push_back(parse_entry(result.path, name, tensor));
    }
    // One behind the other, without holes or overlaps, to the file's last byte.
    std::sort(tensors.begin(), tensors.end(),
              [](const Placed& a, const Placed& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    const Bytes body{file.data + kLengthBytes + length, file.size - kLengthBytes - length};
    std::int64_t end = 0;
    for (Placed& tensor : tensors) {
        if (tensor.begin != end) {
            throw Error(result.path, kNotWhole, {}, {}, "tensor " + in_quotes(tensor.name) + ": a hole or an overlap");
        }
        end = tensor.end;
    }
    if (static_cast<std::uint64_t>(end) != body.size) {
        throw Error(result.path, kNotWhole, std::to_string(end) + " bytes of tensors", std::to_string(body.size));
    }
    for (Placed& tensor : tensors) {
        tensor.entry.data = body.data + tensor.begin;
        result.entries.emplace(std::move(tensor.name), std::move(tensor.entry));
    }
    return result;
}

}  // namespace packnet::detail
