#include "chain.h"

#include <utility>

#include "bits.h"
#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

/// One parameter while deltas are added: how many weights before each chunk, and in all, are free.
struct Free {
    std::vector<std::size_t> before;  // by chunk
    std::size_t total;
};

std::vector<Free> all_free(const std::vector<Parameter>& parameters, bool needed) {
    std::vector<Free> result;
    for (const Parameter& parameter : parameters) {
        Free free{{}, parameter.size};
        for (std::size_t chunk = 0; needed && chunk < chunks_of(parameter); ++chunk)
            free.before.push_back(chunk * kChunk);
        result.push_back(std::move(free));
    }
    return result;
}

TensorEntry check_values(const TensorFile& file, const std::string& name) {
    const TensorEntry* values = file.find("values/" + name);
    if (!values) {
        throw Error(file.path, "tensor " + in_quotes("values/" + name) + " is missing", {}, {},
                    "was this delta made for another backbone?");
    }
    if (values->shape.size() != 1 || values->dtype == Dtype::u8) {
        throw Error(file.path, in_quotes("values/" + name), "1-D float32, float16 or bfloat16",
                    std::string(name_of(values->dtype)) + ' ' + listed(values->shape));
    }
    return *values;
}

Bytes check_mask(const TensorFile& file, const std::string& name, const TensorEntry& mask, std::size_t free) {
    const std::vector<std::int64_t> shape = {static_cast<std::int64_t>((free + 7) / 8)};
    const std::string where = in_quotes("mask/" + name);
    if (mask.dtype != Dtype::u8 || mask.shape != shape) {
        throw Error(file.path, where, "uint8 " + listed(shape) + " for " + std::to_string(free) + " free weights",
                    std::string(name_of(mask.dtype)) + ' ' + listed(mask.shape),
                    "was this delta made for another pack?");
    }
    const Bytes bytes = mask.bytes();
    if (free % 8 && std::to_integer<unsigned>(bytes.data[bytes.size - 1]) >> (free % 8)) {
        throw Error(file.path, where + ": padding bits are not zero");
    }
    return bytes;
}

Share check_share(const TensorFile& file, const std::string& name, Free& free) {
    Share share{true, {}, check_values(file, name), {}};
    const TensorEntry* mask = file.find("mask/" + name);
    if (!mask) {
        if (share.values.size != free.total) {
            throw Error(file.path, in_quotes("values/" + name) + ": no mask",
                        "all " + std::to_string(free.total) + " free weights", std::to_string(share.values.size));
        }
        share.taken_before = std::exchange(free.before, std::vector<std::size_t>(free.before.size()));
        free.total = 0;
        return share;
    }
    share.takes_all = false;
    share.mask = check_mask(file, name, *mask, free.total);
    std::size_t taken = 0;
    for (std::size_t chunk = 0; chunk < free.before.size(); ++chunk) {
        const bool last = chunk + 1 == free.before.size();
        const std::size_t from = free.before[chunk], to = last ? free.total : free.before[chunk + 1];
        share.taken_before.push_back(taken);
        free.before[chunk] -= taken;
        taken += count_ones(share.mask, from, to);
    }
    const std::string where = in_quotes("mask/" + name);
    if (taken == free.total) throw Error(file.path, where + ": marks every free weight, so it must be left out");
    if (taken != share.values.size) {
        throw Error(file.path, where + " marks " + std::to_string(taken) + " weights, but there are " +
                                   std::to_string(share.values.size) + " values");
    }
    free.total -= taken;
    return share;
}

}  // namespace

Chain check_chain(const Pack& pack, const std::vector<Bytes>& files) {
    Chain chain{{}, pack.parameters, pack.input, {}};
    std::vector<Free> free = all_free(pack.parameters, !files.empty());
    for (std::size_t position = 0; position < files.size(); ++position) {
        TensorFile file = parse_tensor_file((pack.path / pack.tasks[position].file()).string(), files[position]);
        DeltaHeader header = parse_header(file);
        check_place(file, header, pack, position);
        std::vector<Share> shares;
        for (std::size_t i = 0; i < free.size(); ++i)
            shares.push_back(check_share(file, pack.parameters[i].name, free[i]));
        check_tensors(file, header, pack.parameters, position ? chain.deltas[0].file : file);
        chain.deltas.push_back({std::move(header), std::move(file), std::move(shares)});
    }
    return chain;
}

}  // namespace packnet::detail
