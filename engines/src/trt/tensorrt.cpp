#include "tensorrt.h"

#include <utility>

#include "packnet/error.h"

namespace packnet::detail {
namespace {

constexpr std::size_t kLongest = 400;  // of a message, characters

}  // namespace

void TensorRtLog::log(Severity severity, const char* message) noexcept {
    if (severity > Severity::kERROR) return;
    try {
        std::string line;
        for (const char* c = message; *c && line.size() < kLongest; ++c) {
            const bool plain = 0x20 <= *c && *c < 0x7f;
            line += plain ? *c : ' ';
        }
        const std::lock_guard<std::mutex> lock(mutex_);
        last_error_ = std::move(line);
    } catch (...) {
        // Out of memory: the message is lost, its error is not.
    }
}

std::string TensorRtLog::take_last_error() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_error_.empty() ? "no reason" : std::exchange(last_error_, {});
}

void TensorRtLog::check(bool success, const std::string& plan, const char* what) {
    if (!success) throw EnvironmentFault(plan, std::string("TensorRT, ") + what, "success", take_last_error());
}

std::string tensorrt_version() {
    return std::to_string(getInferLibMajorVersion()) + '.' + std::to_string(getInferLibMinorVersion()) + '.' +
           std::to_string(getInferLibPatchVersion()) + '.' + std::to_string(getInferLibBuildVersion());
}

const char* tensorrt_flavour() noexcept { return PACKNET_TENSORRT_FLAVOUR; }

}  // namespace packnet::detail
