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

/// A field of a tensor's entry in the header.
Json field(Json tensor, const char* key, const std::string& path, const std::string& where) {
    if (const auto found = tensor.find(key)) return *found;
    throw Error(path, kNotWhole, {}, {}, where + " has no " + key);
}

/// A list of at most `most` sizes or offsets.
std::vector<std::int64_t> sizes(Json tensor, const char* key, std::size_t most, const std::string& path,
                                const std::string& where) {
    const Json list = field(tensor, key, path, where);
    if (!list.is_array()) throw Error(path, kNotWhole, {}, {}, where + " has no " + key);
    std::vector<std::int64_t> result;
    for (JsonWalk walk(list); walk.next();) {
        const auto size = walk.value().integer();
        if (!size || *size < 0) throw Error(path, where + ": " + key, "sizes", shown(walk.value()));
        if (result.size() == most) throw Error(path, where + ": " + key, "at most " + std::to_string(most), "more");
        result.push_back(*size);
    }
    return result;
}

struct Placed {
    std::int64_t begin, end;
    std::string name;
    TensorEntry entry;
};

Placed parse_entry(const std::string& path, const std::string& name, Json tensor) {
    const std::string where = "tensor " + in_quotes(name);
    if (!is_printable(name)) throw Error(path, where + ": its name has control characters");
    if (!tensor.is_object()) throw Error(path, where, "an object", shown(tensor));
    const Json code = field(tensor, "dtype", path, where);
    const auto known =
        std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const auto& t) { return code == t.code; });
    if (known == std::end(kDtypes)) throw Error(path, where + ": dtype", "F32, F16, BF16 or U8", shown(code));
    std::vector<std::int64_t> shape = sizes(tensor, "shape", kMaxDimensions, path, where);
    const auto size = size_of(shape);
    if (!size) throw Error(path, where + ": no network has a shape like", {}, listed(shape));
    const std::vector<std::int64_t> offsets = sizes(tensor, "data_offsets", 2, path, where);
    if (offsets.size() != 2 || offsets[0] > offsets[1] ||
        static_cast<std::uint64_t>(offsets[1] - offsets[0]) != *size * known->bytes) {
        throw Error(path, kNotWhole, {}, {}, where + ": its offsets do not fit its shape");
    }
    return {offsets[0], offsets[1], name, {known->dtype, std::move(shape), *size, nullptr}};
}

std::map<std::string, std::string> parse_metadata(const std::string& path, Json header) {
    std::map<std::string, std::string> metadata;
    const auto found = header.find("__metadata__");
    if (!found) return metadata;
    if (!found->is_object()) throw Error(path, "__metadata__", "an object", shown(*found));
    for (JsonWalk walk(*found); walk.next();) {
        if (!walk.value().is_text()) {
            throw Error(path, "__metadata__: " + shown(walk.name()), "a text", shown(walk.value()));
        }
        metadata[walk.name().text()] = walk.value().text();
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
    for (JsonWalk walk(header); walk.next();) {
        if (walk.name() == "__metadata__") continue;
        tensors.push_back(parse_entry(result.path, walk.name().text(), walk.value()));
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
