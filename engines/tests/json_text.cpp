#include "json_text.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

using packnet::detail::Json;
using packnet::detail::JsonWalk;

namespace {

[[noreturn]] void no_value_at(std::string_view path) {
    throw std::logic_error("the document has no value at " + std::string(path));
}

Json item_of(Json list, std::size_t index, std::string_view path) {
    JsonWalk walk(list);
    for (std::size_t i = 0; i <= index; ++i) {
        if (!walk.next()) no_value_at(path);
    }
    return walk.value();
}

Json step(Json from, std::string_view name, std::string_view path) {
    if (from.is_array()) return item_of(from, std::stoul(std::string(name)), path);
    if (const auto found = from.find(name)) return *found;
    no_value_at(path);
}

Json parsed(const std::string& document) { return packnet::detail::parse_json(document, "a test's JSON", "damaged"); }

/// Where a value begins in the document that it is a view of.
std::size_t place_of(Json value, const std::string& document) {
    return static_cast<std::size_t>(value.raw().data() - document.data());
}

std::string joined(char open, const std::vector<std::string>& items, char close) {
    std::string text(1, open);
    for (const std::string& item : items) text += (text.size() > 1 ? ", " : "") + item;
    return text + close;
}

}  // namespace

Json value_at(const std::string& document, std::string_view path) {
    Json value = parsed(document);
    for (std::string_view rest = path; !rest.empty();) {
        const std::size_t slash = std::min(rest.find('/'), rest.size());
        value = step(value, rest.substr(0, slash), path);
        rest.remove_prefix(std::min(slash + 1, rest.size()));
    }
    return value;
}

std::string changed(const std::string& document, std::string_view path, std::string_view value) {
    const std::size_t slash = path.rfind('/');
    const std::string_view last = path.substr(slash == std::string_view::npos ? 0 : slash + 1);
    const Json parent = value_at(document, path.substr(0, slash == std::string_view::npos ? 0 : slash));
    std::string result = document;
    if (last == "-" || (parent.is_object() && !parent.find(last))) {
        const std::string item = (last == "-" ? "" : json_of(last) + ": ") + std::string(value);
        const std::string comma = JsonWalk(parent).next() ? ", " : "";
        return result.insert(place_of(parent, document) + parent.raw().size() - 1, comma + item);
    }
    const Json old = step(parent, last, path);
    std::size_t begin = place_of(old, document), end = begin + old.raw().size();
    if (value.empty()) {  // with its name, and the comma before or behind it
        begin = document.rfind('"', document.rfind('"', document.rfind(':', begin)) - 1);
        const std::size_t before = document.find_last_not_of(" \n", begin - 1);
        if (document[before] == ',') {
            begin = before;
        } else {
            end = document.find(',', end) + 1;
        }
    }
    return result.replace(begin, end - begin, value);
}

std::string json_of(std::string_view text) {
    constexpr char digits[] = "0123456789abcdef";
    std::string result = "\"";
    for (char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20) {
            result += std::string("\\u00") + digits[byte >> 4] + digits[byte & 15];
        } else {
            result += (c == '"' || c == '\\' ? "\\" : "") + std::string(1, c);
        }
    }
    return result + '"';
}

std::string json_of(bool truth) { return truth ? "true" : "false"; }

std::string json_of(double number) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.17e", number);
    return digits;
}

std::string object_of(const Members& members) {
    std::vector<std::string> items;
    for (const auto& [name, value] : members) items.push_back(json_of(name) + ": " + value);
    return joined('{', items, '}');
}

std::string list_of(const std::vector<std::string>& items) { return joined('[', items, ']'); }
