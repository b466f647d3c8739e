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
    throw EnvironmentFault(name, std::string("cannot be read (") + std::strerror(error) + ")", {}, {},
                           "check its permissions");
}

/// A file descriptor that closes itself.
struct Descriptor {
    int number = -1;

    explicit Descriptor(int opened) : number(opened) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number, other.number);
        return *this;
    }
    ~Descriptor() {
        if (number >= 0) ::close(number);
    }
};

constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // without the last, opening a pipe would wait for its writer

/// Throw what a failed opening means, unless it did not fail.
/// @param Missing  what it is if there is no such file: the machine's fault, or that of the pack that lacks it.
template <typename Missing>
void expect_open(int file, const std::string& name, const char* missing) {
    if (file >= 0) return;
    if (errno == ENOENT || errno == ENOTDIR) throw Missing(name, missing);
    fail_to_read(name, errno);
}

/// Whether `part` of the folder is a link; if it is not there, opening it says so.
bool is_link(int folder, const std::filesystem::path& part) {
    struct stat status;
    return ::fstatat(folder, part.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path, const char* missing) : name_(path.string()) {
    const Descriptor file(::open(path.c_str(), kFlags));
    expect_open<EnvironmentFault>(file.number, name_, missing);
    map(file.number);
}

MappedFile::MappedFile(const std::filesystem::path& pack, const std::filesystem::path& path, const char* missing)
    : name_((pack / path).string()) {
    std::filesystem::path so_far = pack;
    Descriptor inner(::open(pack.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
    if (inner.number < 0 && errno == ENOENT)
        throw EnvironmentFault(pack.string(), "no such folder; give a pack's path");
    expect_open<Error>(inner.number, name_, missing);
    for (const std::filesystem::path& part : path) {
        so_far /= part;
        Descriptor next(::openat(inner.number, part.c_str(), kFlags | O_NOFOLLOW));
        const int error = errno;
        if (next.number < 0 && is_link(inner.number, part)) {
            throw Error(so_far.string(), "expected no link in a pack, got one", {}, {}, "use a pack from its source");
        }
        errno = error;
        expect_open<Error>(next.number, name_, missing);
        inner = std::move(next);
    }
    map(inner.number);
}

void MappedFile::map(int file) {
    struct stat status;
    if (::fstat(file, &status) != 0) fail_to_read(name_, errno);
    if (!S_ISREG(status.st_mode)) throw Error(name_, "not a regular file");
    const auto size = static_cast<std::size_t>(status.st_size);
    if (size == 0) return;  // mmap refuses it
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
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
