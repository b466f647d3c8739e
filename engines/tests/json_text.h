/// @file
/// JSON as text, for tests: one value of a document looked up or changed, and what a program found written down.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.h"

/// The value at `path`, such as "tasks/1/index"; a view of `document`.
packnet::detail::Json value_at(const std::string& document, std::string_view path);
packnet::detail::Json value_at(std::string&& document, std::string_view path) = delete;

/// `document` with the value at `path` replaced by `value`, which is JSON too; without the member where that is empty.
/// A member that is not there is added, and "-" is one item more of a list.
std::string changed(const std::string& document, std::string_view path, std::string_view value);

/// A text in quotes. (Literals too: they would be truths else.)
std::string json_of(std::string_view text);
inline std::string json_of(const char* text) { return json_of(std::string_view(text)); }

std::string json_of(bool truth);
std::string json_of(double number);

/// Members and items are JSON already.
using Members = std::vector<std::pair<std::string, std::string>>;
std::string object_of(const Members& members);
std::string list_of(const std::vector<std::string>& items);

template <typename Number>
std::string list_of_numbers(const std::vector<Number>& numbers) {
    std::vector<std::string> items;
    for (const Number& number : numbers) items.push_back(std::to_string(number));
    return list_of(items);
}
