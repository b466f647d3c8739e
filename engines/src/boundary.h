/// @file
/// Where the library ends: nothing but Error leaves it. Every public function that can fail is
///
///     Pack open_pack(const path& path) try {
///         ...
///     } catch (...) {
///         detail::rethrow_as_error(path);
///     }
#pragma once

#include <filesystem>

namespace packnet::detail {

/// Throw what is being handled again, as an Error whatever it was: no memory for what a file claims, no thread, no room
/// in a container.
/// @param file  what was being worked on; empty where it was no file.
[[noreturn]] void rethrow_as_error(const std::filesystem::path& file);

}  // namespace packnet::detail
