/// @file
/// TensorRT with errors that say what failed and what it said last, and the version of the library that is linked.
#pragma once

#include <NvInferRuntime.h>

#include <mutex>
#include <shared_mutex>
#include <string>

#include "packnet/packnet.h"

namespace packnet::detail {

/// The logger of every runtime of the process. TensorRT keeps the first one that it is given for as long as it lives,
/// so there is one, and it is never destroyed. It may be called from any thread.
class TensorRtLog : public nvinfer1::ILogger {
public:
    static TensorRtLog& instance();

    void log(Severity severity, const char* message) noexcept override;

    /// Say something of our own.
    void say(packnet_severity severity, const std::string& line) noexcept;

    /// Whom to pass messages on to; null for nobody. The one of before is not called any more once this returns.
    void set_listener(packnet_listener listener, void* user);

    /// The last error that TensorRT logged on this thread, or else on any, since the last call; "no reason" if none.
    std::string take_last_error();

    /// @throws EnvironmentFault  `success` is false; with the last error.
    void check(bool success, const std::string& plan, const char* what);

private:
    TensorRtLog() = default;

    std::shared_mutex listener_mutex_;
    packnet_listener listener_ = nullptr;
    void* user_ = nullptr;
    std::mutex error_mutex_;
    std::string last_error_;
};

/// "10.13.3.9": major, minor, patch, build.
std::string tensorrt_version();

/// "tensorrt" or "tensorrt-rtx".
const char* tensorrt_flavour() noexcept;

}  // namespace packnet::detail
