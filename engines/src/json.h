/// @file
/// Strict, bounded JSON: what a hostile file may make of the parser ends here. Not included by public headers.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace packnet::detail {

using Json = nlohmann::json;

/// Parse one JSON document: RFC 8259, UTF-8, no byte order mark, no name twice in one object, nested at most
/// kMaxNesting deep.
/// @param file, subject  for messages.
/// @throws Error         anything else.
Json parse_json(std::string_view text, const std::string& file, const std::string& subject);

inline constexpr int kMaxNesting = 64;

/// For messages: a short, printable rendering of `value`.
std::string shown(const Json& value);

}  // namespace packnet::detail
