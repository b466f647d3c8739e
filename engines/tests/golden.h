/// @file
/// The golden pack, in memory and as a copy on disk, and deltas with one thing wrong with them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "chain.h"
#include "packnet/pack.h"

std::filesystem::path golden_path();
std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& bytes);

/// A copy of the golden pack that the test may change; gone with the object.
class GoldenCopy {
public:
    GoldenCopy();
    ~GoldenCopy();
    const std::filesystem::path path;
};

/// `text` in memory of exactly its size, so that the sanitizer sees any step beyond it.
class ExactBytes {
public:
    explicit ExactBytes(const std::string& text) : bytes_(text.begin(), text.end()) { bytes_.shrink_to_fit(); }
    operator packnet::detail::Bytes() const {
        return {reinterpret_cast<const std::byte*>(bytes_.data()), bytes_.size()};
    }

private:
    std::vector<char> bytes_;
};

/// The golden pack's deltas, read once.
const std::vector<std::string>& golden_deltas();

/// The sidecar of a plan of the golden pack, whose bytes would be "an engine": refit, fp32, for batches of 1, 2 to 8.
std::string golden_sidecar();

/// Check the golden pack's chain with the delta at `position` replaced. Hashes are not looked at.
void check_with(std::size_t position, const std::string& delta);

/// A safetensors file taken apart, to be changed and put together again without the code under test.
struct Forgery {
    struct Tensor {
        std::string dtype;
        std::vector<std::int64_t> shape;
        std::string data;
    };
    std::map<std::string, std::string> metadata;  // texts
    std::string odd_metadata;                     // JSON to be there instead, where it is not empty
    std::map<std::string, Tensor> tensors;

    explicit Forgery(const std::string& file);
    std::string bytes() const;
};
