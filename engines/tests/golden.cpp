#include "golden.h"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "json.h"
#include "sha256.h"

namespace fs = std::filesystem;

Json parsed(const std::string& text) { return packnet::detail::parse_json(text, "a test's JSON", "damaged"); }

std::string text_of(const Json& json) { return json.dump(); }

fs::path golden_path() { return fs::path(PACKNET_GOLDEN) / "three_tasks.pack"; }

std::string read_file(const fs::path& path) {
    std::ostringstream bytes;
    bytes << std::ifstream(path, std::ios::binary).rdbuf();
    return bytes.str();
}

void write_file(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

namespace {

fs::path fresh_path() {
    static int count = 0;
    return fs::temp_directory_path() / ("packnet-test-" + std::to_string(::getpid()) + '-' + std::to_string(++count));
}

}  // namespace

GoldenCopy::GoldenCopy() : path(fresh_path()) { fs::copy(golden_path(), path, fs::copy_options::recursive); }

GoldenCopy::~GoldenCopy() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
}

const std::vector<std::string>& golden_deltas() {
    static const std::vector<std::string> deltas = [] {
        std::vector<std::string> files;
        for (const packnet::TaskEntry& task : packnet::open_pack(golden_path()).tasks) {
            files.push_back(read_file(golden_path() / task.file()));
        }
        return files;
    }();
    return deltas;
}

std::string golden_sidecar() {
    const packnet::Pack pack = packnet::open_pack(golden_path());
    Json json{{"format", "packnet-plan"},
              {"version", 1},
              {"flavour", "tensorrt"},
              {"tensorrt", "10.13.3.9"},
              {"compute_capabilities", {"8.6", "8.9"}},
              {"switch", "refit"},
              {"precision", "fp32"},
              {"batch", {{"least", 1}, {"best", 2}, {"most", 8}}},
              {"input", parsed(read_file(golden_path() / "pack.json"))["input"]},
              {"classes", 5},
              {"fixed_sha256", std::string(64, '0')},
              {"graph_sha256", pack.graph_sha256},
              {"sparse_weights", true},
              {"sparsity", {{{"name", "conv1.weight"}, {"eligible", false}}}},
              {"norms",
               {{{"scale", "n.scale"},
                 {"shift", "n.shift"},
                 {"norm", {"n.weight", "n.bias", "n.running_mean", "n.running_var"}},
                 {"freed", {"n.weight"}},
                 {"epsilon", 1e-5},
                 {"shape", {-1, 1, 1}}}}},
              {"plan_sha256", packnet::detail::sha256("an engine", 9)},
              {"plan_bytes", 9}};
    for (const packnet::TaskEntry& task : pack.tasks) {
        json["tasks"].push_back(
            {{"name", task.name}, {"index", task.index}, {"classes", task.classes}, {"sha256", task.sha256}});
    }
    for (const packnet::Parameter& parameter : pack.parameters) {
        json["weights"].push_back(
            {{"name", parameter.name}, {"shape", parameter.shape}, {"dtype", "fp32"}, {"banked", true}});
    }
    return text_of(json);
}

void check_with(std::size_t position, const std::string& delta) {
    std::vector<ExactBytes> files;
    for (std::size_t i = 0; i < golden_deltas().size(); ++i)
        files.emplace_back(i == position ? delta : golden_deltas()[i]);
    packnet::detail::check_chain(packnet::open_pack(golden_path()), {files.begin(), files.end()});
}

Forgery::Forgery(const std::string& file) {
    std::size_t length = 0;
    for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
    const Json header = parsed(file.substr(8, length));
    for (const auto& [name, tensor] : header.items()) {
        if (name == "__metadata__") {
            metadata = tensor;
            continue;
        }
        const std::size_t begin = tensor["data_offsets"][0], end = tensor["data_offsets"][1];
        tensors[name] = {tensor["dtype"], tensor["shape"], file.substr(8 + length + begin, end - begin)};
    }
}

std::string Forgery::bytes() const {
    Json header{{"__metadata__", metadata}};
    std::string body;
    for (const auto& [name, tensor] : tensors) {
        const std::size_t begin = body.size();
        body += tensor.data;
        header[name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, body.size()}}};
    }
    const std::string text = text_of(header);
    std::string length;
    for (std::size_t i = 0; i < 8; ++i) length += static_cast<char>(text.size() >> 8 * i & 255);
    return length + text + body;
}
