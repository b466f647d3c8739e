#include "golden.h"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "json_text.h"

namespace fs = std::filesystem;

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

std::string golden_sidecar() { return read_file(golden_path().parent_path() / "plans" / "refit.plan.json"); }

void check_with(std::size_t position, const std::string& delta) {
    std::vector<ExactBytes> files;
    for (std::size_t i = 0; i < golden_deltas().size(); ++i)
        files.emplace_back(i == position ? delta : golden_deltas()[i]);
    packnet::detail::check_chain(packnet::open_pack(golden_path()), {files.begin(), files.end()});
}

Forgery::Forgery(const std::string& file) {
    std::size_t length = 0;
    for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
    const std::string header = file.substr(8, length);
    for (packnet::detail::JsonWalk texts(value_at(header, "__metadata__")); texts.next();) {
        metadata[texts.name().text()] = texts.value().text();
    }
    for (packnet::detail::JsonWalk walk(value_at(header, "")); walk.next();) {
        if (walk.name() == "__metadata__") continue;
        const auto numbers = [&](const char* key) {
            std::vector<std::int64_t> found;
            for (packnet::detail::JsonWalk list(*walk.value().find(key)); list.next();) {
                found.push_back(*list.value().integer());
            }
            return found;
        };
        const auto offsets = numbers("data_offsets");
        const auto begin = static_cast<std::size_t>(offsets[0]), end = static_cast<std::size_t>(offsets[1]);
        tensors[walk.name().text()] = {walk.value().find("dtype")->text(), numbers("shape"),
                                       file.substr(8 + length + begin, end - begin)};
    }
}

std::string Forgery::bytes() const {
    Members texts, members;
    for (const auto& [key, text] : metadata) texts.emplace_back(key, json_of(text));
    members.emplace_back("__metadata__", odd_metadata.empty() ? object_of(texts) : odd_metadata);
    std::string body;
    for (const auto& [name, tensor] : tensors) {
        const std::size_t begin = body.size();
        body += tensor.data;
        members.emplace_back(name, object_of({{"dtype", json_of(tensor.dtype)},
                                              {"shape", list_of_numbers(tensor.shape)},
                                              {"data_offsets", list_of_numbers<std::size_t>({begin, body.size()})}}));
    }
    const std::string text = object_of(members);
    std::string length;
    for (std::size_t i = 0; i < 8; ++i) length += static_cast<char>(text.size() >> 8 * i & 255);
    return length + text + body;
}
