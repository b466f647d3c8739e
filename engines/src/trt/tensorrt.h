/// @file
/// TensorRT with errors that say what failed and what it said last, and the version of the library that is linked.
#pragma once

#include <NvInferRuntime.h>

#include <mutex>
#include <string>

namespace packnet::detail {

/// Keeps TensorRT's last error; drops what is no error. It may log from any thread.
class TensorRtLog : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char* message) noexcept override;

    /// The last error since the last call, on one line, cut; "no reason" if there was none.
    std::string take_last_error();

    /// @throws EnvironmentFault  `success` is false; with the last error.
    void check(bool success, const std::string& plan, const char* what);

private:
    std::mutex mutex_;
    std::string last_error_;
};

/// "10.13.3.9": major, minor, patch, build.
std::string tensorrt_version();

/// "tensorrt" or "tensorrt-rtx".
const char* tensorrt_flavour() noexcept;

}  // namespace packnet::detail
