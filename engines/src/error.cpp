#include "packnet/error.h"

namespace packnet {
namespace {

std::string one_line(const std::string& file, const std::string& subject, const std::string& expected,
                     const std::string& got, const std::string& next) {
    std::string line = file.empty() ? subject : file + ": " + subject;
    if (!expected.empty()) line += ": expected " + expected;
    if (!got.empty()) line += (expected.empty() ? ": got " : ", got ") + got;
    if (!next.empty()) line += "; " + next;
    return line;
}

}  // namespace

Error::Error(std::string file, std::string subject, std::string expected, std::string got, std::string next)
    : std::runtime_error(one_line(file, subject, expected, got, next)),
      file_(std::move(file)),
      subject_(std::move(subject)),
      expected_(std::move(expected)),
      got_(std::move(got)),
      next_(std::move(next)) {}

}  // namespace packnet
