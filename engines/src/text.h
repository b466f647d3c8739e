/// @file
/// Rules for texts of a pack, and texts for messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace packnet::detail {

/// No control characters (U+0000-001F, U+007F-009F) nor line separators (U+2028-2029). `text` is valid UTF-8, which
/// has no lone surrogates.
bool is_printable(std::string_view text);

/// 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first: it becomes part of a file's name.
bool is_task_name(std::string_view text);

/// 64 lower-case hex digits.
bool is_sha256(std::string_view text);

/// For messages: in quotes, control characters and bytes beyond ASCII escaped, cut after 64 bytes.
std::string in_quotes(std::string_view text);

/// For messages: "[64, 3, 7, 7]".
std::string listed(const std::vector<std::int64_t>& shape);

}  // namespace packnet::detail
