#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "packnet/error.h"
#include "sha256.h"

namespace packnet::detail {
namespace {

[[noreturn]] void fail_to_read(const std::string& name, int error) {
    throw Error(name, std::string("cannot be read (") + std::strerror(error) + ")", {}, {}, "check its permissions");
}

/// A file descriptor that closes itself.
struct Descriptor {
    int number;
    ~Descriptor() {
        if (number >= 0) ::close(number);
    }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path, const char* missing) : name_(path.string()) {
    // Without O_NONBLOCK, opening a pipe would wait for its writer.
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.number < 0) {
        if (errno == ENOENT || errno == ENOTDIR) throw Error(name_, missing);
        fail_to_read(name_, errno);
    }
    struct stat status;
    if (::fstat(file.number, &status) != 0) fail_to_read(name_, errno);
    if (!S_ISREG(status.st_mode)) throw Error(name_, "not a regular file");
    const auto size = static_cast<std::size_t>(status.st_size);
    if (size == 0) return;  // mmap refuses it
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
    if (data == MAP_FAILED) fail_to_read(name_, errno);
    bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::~MappedFile() {
    if (bytes_.data) ::munmap(const_cast<std::byte*>(bytes_.data), bytes_.size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : name_(std::move(other.name_)), bytes_(std::exchange(other.bytes_, {})) {}

void MappedFile::check_sha256(const std::string& expected) const {
    const std::string got = sha256(bytes_.data, bytes_.size);
    if (got != expected) {
        throw Error(name_, "damaged: sha256", expected, got, "restore the file from the pack's source");
    }
}

}  // namespace packnet::detail
