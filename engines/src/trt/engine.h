/// @file
/// An engine: a plan and its pack, checked against each other and this machine, loaded, and asked. What packnet.h's
/// functions are about.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "packnet/packnet.h"
#include "session.h"

namespace packnet::detail {

/// Every call makes the engine's GPU the thread's while it lasts.
class Engine {
public:
    /// @throws Error  as packnet_engine_open says.
    Engine(const std::filesystem::path& plan, const std::filesystem::path& pack, const packnet_options& options);
    ~Engine();

    int device() const noexcept { return device_; }
    Session& session() noexcept { return *session_; }
    const Session& session() const noexcept { return *session_; }

    /// The task of this name, or the current one for null.
    /// @throws Error  there is none.
    const SessionTask& task(const char* name) const;

    /// @throws CheckFailed  the logits of the probe images differ by more than the precision explains.
    packnet_difference check(const SessionTask& task);

private:
    struct Files;  // what the plan is loaded from, perhaps more than once

    const int device_;
    std::shared_ptr<const Files> files_;
    std::unique_ptr<Session> session_;
};

}  // namespace packnet::detail
