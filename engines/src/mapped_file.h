/// @file
/// A whole file mapped for reading, and the view of bytes that everything else here works on.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace packnet::detail {

/// Bytes that someone else owns.
struct Bytes {
    const std::byte* data;
    std::size_t size;

    std::string_view text() const { return {reinterpret_cast<const char*>(data), size}; }
};

/// A regular file, mapped while the object lives.
class MappedFile {
public:
    /// @param missing            what to say if there is no such file.
    /// @throws EnvironmentFault  missing, or not readable.
    /// @throws Error             not a regular file: a pipe would block, a device may never end.
    MappedFile(const std::filesystem::path& path, const char* missing);

    /// A file of a pack: from the pack's folder on, nothing on the way to `path` may be a link (docs/format.md).
    /// @throws EnvironmentFault  there is no such pack, or the file is not readable.
    /// @throws Error             the pack lacks the file, something is a link, or it is not a regular file.
    MappedFile(const std::filesystem::path& pack, const std::filesystem::path& path, const char* missing);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&&) = delete;

    Bytes bytes() const noexcept { return bytes_; }

    /// Throw unless the file's SHA-256 is the `expected` one.
    void check_sha256(const std::string& expected) const;

private:
    void map(int file);

    std::string name_;
    Bytes bytes_{};
};

}  // namespace packnet::detail
