#include "tensorrt.h"

#include <utility>

#include "packnet/error.h"

namespace packnet::detail {
namespace {

constexpr std::size_t kLongest = 400;  // of a message, characters

thread_local std::string last_error_here;  // of this thread

std::string one_line(const char* message) {
    std::string line;
    for (const char* c = message; *c && line.size() < kLongest; ++c) {
        const bool plain = 0x20 <= *c && *c < 0x7f;
        line += plain ? *c : ' ';
    }
    return line;
}

packnet_severity severity_of(nvinfer1::ILogger::Severity severity) {
    using Severity = nvinfer1::ILogger::Severity;
    return severity <= Severity::kERROR     ? PACKNET_ERROR
           : severity == Severity::kWARNING ? PACKNET_WARNING
           : severity == Severity::kINFO    ? PACKNET_INFORMATION
                                            : PACKNET_DETAIL;
}

}  // namespace

TensorRtLog& TensorRtLog::instance() {
    static TensorRtLog* const log = new TensorRtLog;
    return *log;
}

void TensorRtLog::log(Severity severity, const char* message) noexcept {
    try {
        const std::string line = one_line(message);
        if (severity <= Severity::kERROR) {
            last_error_here = line;
            const std::lock_guard<std::mutex> lock(error_mutex_);
            last_error_ = line;
        }
        say(severity_of(severity), line);
    } catch (...) {
        // Out of memory: the message is lost, its error is not.
    }
}

void TensorRtLog::say(packnet_severity severity, const std::string& line) noexcept {
    try {
        const std::shared_lock<std::shared_mutex> lock(listener_mutex_);
        if (listener_) listener_(user_, severity, line.c_str());
    } catch (...) {
        // A listener that throws, or a lock that fails: nobody hears of it.
    }
}

void TensorRtLog::set_listener(packnet_listener listener, void* user) {
    const std::unique_lock<std::shared_mutex> lock(listener_mutex_);
    listener_ = listener;
    user_ = user;
}

std::string TensorRtLog::take_last_error() {
    const std::lock_guard<std::mutex> lock(error_mutex_);
    const std::string of_any = std::exchange(last_error_, {});
    const std::string of_this = std::exchange(last_error_here, {});
    const std::string& last = of_this.empty() ? of_any : of_this;
    return last.empty() ? "no reason" : last;
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
