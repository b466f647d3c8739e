#include "text.h"

#include <algorithm>

namespace packnet::detail {
namespace {

bool is_letter_or_digit(char c) { return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9'); }

}  // namespace

bool is_printable(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < 0x20 || byte == 0x7f) return false;
        const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
        if (byte == 0xc2 && 0x80 <= next && next <= 0x9f) return false;  // U+0080-009F
        const std::string_view three = text.substr(i, 3);
        if (three == "\xe2\x80\xa8" || three == "\xe2\x80\xa9") return false;  // U+2028-2029
    }
    return true;
}

bool is_task_name(std::string_view text) {
    const auto allowed = [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; };
    return !text.empty() && text.size() <= 64 && is_letter_or_digit(text[0]) &&
           std::all_of(text.begin(), text.end(), allowed);
}

bool is_sha256(std::string_view text) {
    const auto digit = [](char c) { return ('0' <= c && c <= '9') || ('a' <= c && c <= 'f'); };
    return text.size() == 64 && std::all_of(text.begin(), text.end(), digit);
}

std::string in_quotes(std::string_view text) {
    constexpr std::size_t most = 64;
    constexpr char digits[] = "0123456789abcdef";
    std::string result = "'";
    for (char c : text.substr(0, most)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte >= 0x7f || c == '\'' || c == '\\') {
            result += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
        } else {
            result += c;
        }
    }
    return result + (text.size() > most ? "...'" : "'");
}

std::string listed(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

}  // namespace packnet::detail
