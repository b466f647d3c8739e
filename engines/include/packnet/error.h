/// @file
/// The one exception type of this library, and the kinds of it that a caller may want to tell apart.
#pragma once

#include <stdexcept>
#include <string>

#include "packnet/api.h"

namespace packnet {

/// What went wrong with which file: thrown by every function here that reads, checks or allocates.
///
/// `what()` is one line: file, subject, expected, got, and what to do next where that is known. Text that comes from
/// a file is escaped and cut, so that a hostile pack can neither split the line nor command a terminal.
class PACKNET_API Error : public std::runtime_error {
public:
    /// @param file      the file or folder at fault; empty for a wrong argument.
    /// @param subject   the field, tensor or condition.
    /// @param expected  empty where `subject` says it all.
    /// @param got       empty where `subject` says it all.
    /// @param next      what to do about it; may be empty.
    Error(std::string file, std::string subject, std::string expected = {}, std::string got = {},
          std::string next = {});

    const std::string& file() const noexcept { return file_; }
    const std::string& subject() const noexcept { return subject_; }
    const std::string& expected() const noexcept { return expected_; }
    const std::string& got() const noexcept { return got_; }
    const std::string& next() const noexcept { return next_; }

private:
    std::string file_, subject_, expected_, got_, next_;
};

/// The machine lacks something: a GPU, its driver, memory, the TensorRT that a plan needs, a file or the right to read
/// it (a file that a pack should have is the pack's fault). `got()` is the last thing
/// that CUDA or TensorRT said, where one of them failed.
class PACKNET_API EnvironmentFault : public Error {
public:
    using Error::Error;
};

/// An engine gives other logits than its pack.
class PACKNET_API CheckFailed : public Error {
public:
    using Error::Error;
};

}  // namespace packnet
