#include "json.h"

#include <locale.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <vector>

#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
bool is_digit(char c) { return '0' <= c && c <= '9'; }

/// Of a checked text: the end of the one that begins at `begin`, behind its closing quote.
std::size_t end_of_text(std::string_view text, std::size_t begin) {
    std::size_t i = begin + 1;
    while (text[i] != '"') i += text[i] == '\\' ? 2 : 1;
    return i + 1;
}

/// Of a checked text: the end of the value that begins at its beginning.
std::size_t end_of_value(std::string_view text) {
    if (text[0] == '"') return end_of_text(text, 0);
    if (text[0] != '{' && text[0] != '[') return std::min(text.find_first_of(",]} \n\t\r"), text.size());
    std::size_t open = 0, i = 0;
    do {
        const char c = text[i];
        open += c == '{' || c == '[';
        open -= c == '}' || c == ']';
        i = c == '"' ? end_of_text(text, i) : i + 1;
    } while (open > 0);
    return i;
}

std::uint32_t hex_value(std::string_view digits) {
    std::uint32_t value = 0;
    for (char c : digits) value = value << 4 | static_cast<std::uint32_t>(is_digit(c) ? c - '0' : (c | 32) - 'a' + 10);
    return value;
}

bool is_high_surrogate(std::uint32_t unit) { return 0xd800 <= unit && unit < 0xdc00; }
bool is_low_surrogate(std::uint32_t unit) { return 0xdc00 <= unit && unit < 0xe000; }

void append_utf8(std::string& out, std::uint32_t point) {
    const auto byte = [&](std::uint32_t bits) { out += static_cast<char>(bits); };
    if (point < 0x80) return byte(point);
    if (point < 0x800) {
        byte(0xc0 | point >> 6);
    } else {
        if (point < 0x10000) {
            byte(0xe0 | point >> 12);
        } else {
            byte(0xf0 | point >> 18);
            byte(0x80 | (point >> 12 & 63));
        }
        byte(0x80 | (point >> 6 & 63));
    }
    byte(0x80 | (point & 63));
}

/// What stands between the quotes of a checked text, its escapes decoded.
std::string decoded(std::string_view inside) {
    std::string out;
    for (std::size_t i = 0; i < inside.size(); ++i) {
        if (inside[i] != '\\') {
            out += inside[i];
            continue;
        }
        constexpr std::string_view letters = "bfnrt", meant = "\b\f\n\r\t";
        const char escape = inside[++i];
        if (escape == 'u') {
            std::uint32_t point = hex_value(inside.substr(i + 1, 4));
            i += 4;
            if (is_high_surrogate(point)) {
                point = 0x10000 + ((point & 0x3ff) << 10) + (hex_value(inside.substr(i + 3, 4)) & 0x3ff);
                i += 6;
            }
            append_utf8(out, point);
        } else {
            const std::size_t letter = letters.find(escape);
            out += letter == std::string_view::npos ? escape : meant[letter];
        }
    }
    return out;
}

/// strtod for the C locale: the program's own may have another decimal point.
double nearest_double(const std::string& number) {
    static const locale_t plain = ::newlocale(LC_ALL_MASK, "C", nullptr);
    return ::strtod_l(number.c_str(), nullptr, plain);
}

/// One pass over a document; refuses what RFC 8259 and docs/format.md do not allow.
class Checker {
public:
    Checker(std::string_view text, const std::string& file, const std::string& subject)
        : text_(text), file_(file), subject_(subject) {}

    /// The document's only value.
    std::string_view document() {
        if (text_.substr(0, 3) == "\xef\xbb\xbf") refuse("JSON in plain UTF-8", "a byte order mark");
        const auto parts = std::count_if(text_.begin(), text_.end(), [](char c) { return c == ',' || c == '[' || c == '{'; });
        if (parts > kMaxParts) {
            refuse("at most " + std::to_string(kMaxParts) + " commas and opening brackets", std::to_string(parts));
        }
        skip_space();
        const std::size_t begin = at_;
        value(0);
        const std::size_t end = at_;
        skip_space();
        if (at_ != text_.size()) unexpected();
        return text_.substr(begin, end - begin);
    }

private:
    [[noreturn]] void refuse(const std::string& expected, const std::string& got) const {
        throw Error(file_, subject_, expected, got);
    }

    [[noreturn]] void unexpected() const {
        if (at_ >= text_.size()) refuse("JSON", "its end at byte " + std::to_string(at_));
        if (text_[at_] == '\0') refuse("JSON", "a zero byte at byte " + std::to_string(at_));
        refuse("JSON", in_quotes(text_.substr(at_, 1)) + " at byte " + std::to_string(at_));
    }

    char peek() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool skip(char c) noexcept {
        if (peek() != c || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }

    void expect(char c) {
        if (!skip(c)) unexpected();
    }

    void skip_space() noexcept {
        while (is_space(peek())) ++at_;
    }

    void value(int depth) {
        switch (peek()) {
            case '{': return object(depth);
            case '[': return array(depth);
            case '"': return text();
            case 't': return word("true");
            case 'f': return word("false");
            case 'n': return word("null");
            default: return number();
        }
    }

    void word(std::string_view letters) {
        for (char letter : letters) expect(letter);
    }

    void open(int depth) {
        if (depth >= kMaxNesting) refuse("at most " + std::to_string(kMaxNesting) + " levels of nesting", "more");
        ++at_;
        skip_space();
    }

    void array(int depth) {
        open(depth);
        if (skip(']')) return;
        do {
            skip_space();
            value(depth + 1);
            skip_space();
        } while (skip(','));
        expect(']');
    }

    void object(int depth) {
        open(depth);
        if (skip('}')) return;
        const std::size_t others = names_.size();
        const std::size_t others_decoded = decoded_.size();
        do {
            skip_space();
            name();
            skip_space();
            expect(':');
            skip_space();
            value(depth + 1);
            skip_space();
        } while (skip(','));
        expect('}');
        check_unique(others);
        names_.resize(others);
        decoded_.resize(others_decoded);
    }

    void name() {
        const std::size_t begin = at_ + 1;
        text();
        const std::string_view inside = text_.substr(begin, at_ - 1 - begin);
        const bool is_plain = inside.find('\\') == std::string_view::npos;
        names_.push_back(is_plain ? inside : decoded_.emplace_back(decoded(inside)));
    }

    void check_unique(std::size_t others) {
        const auto begin = names_.begin() + static_cast<std::ptrdiff_t>(others);
        std::sort(begin, names_.end());
        const auto twice = std::adjacent_find(begin, names_.end());
        if (twice != names_.end()) refuse("every name once in an object", in_quotes(*twice) + " twice");
    }

    void text() {
        expect('"');
        while (!skip('"')) {
            const auto byte = static_cast<unsigned char>(peek());
            if (byte < 0x20) unexpected();  // the text's end too
            if (byte == '\\') {
                escape();
            } else if (byte < 0x80) {
                ++at_;
            } else {
                multibyte(byte);
            }
        }
    }

    void escape() {
        ++at_;
        if (!skip('u')) {
            if (peek() == '\0' || std::string_view("\"\\/bfnrt").find(peek()) == std::string_view::npos) unexpected();
            ++at_;
            return;
        }
        const std::uint32_t unit = four_digits();
        if (is_low_surrogate(unit)) refuse("JSON", "a lone surrogate");
        if (!is_high_surrogate(unit)) return;
        if (!skip('\\') || !skip('u') || !is_low_surrogate(four_digits())) refuse("JSON", "a lone surrogate");
    }

    std::uint32_t four_digits() {
        const std::size_t begin = at_;
        for (; at_ < begin + 4; ++at_) {
            const char lower = static_cast<char>(peek() | 32);
            if (!is_digit(peek()) && !('a' <= lower && lower <= 'f')) unexpected();
        }
        return hex_value(text_.substr(begin, 4));
    }

    /// A character of 2 to 4 bytes: no longer than it has to be, no surrogate, none beyond U+10FFFF.
    void multibyte(unsigned char first) {
        const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
        unsigned char least = 0x80, most = 0xbf;  // of the second byte
        if (first == 0xe0) least = 0xa0;
        if (first == 0xed) most = 0x9f;
        if (first == 0xf0) least = 0x90;
        if (first == 0xf4) most = 0x8f;
        if (first < 0xc2 || first > 0xf4) not_utf8();
        for (std::size_t i = 1; i < length; ++i, least = 0x80, most = 0xbf) {
            const auto byte = at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0;
            if (byte < least || byte > most) not_utf8();
        }
        at_ += length;
    }

    [[noreturn]] void not_utf8() const { refuse("JSON in plain UTF-8", "another byte at " + std::to_string(at_)); }

    void digits() {
        if (!is_digit(peek())) unexpected();
        while (is_digit(peek())) ++at_;
    }

    void number() {
        constexpr std::size_t always_finite = 300;  // digits, without an exponent
        const std::size_t begin = at_;
        skip('-');
        if (!skip('0')) digits();
        if (skip('.')) digits();
        const bool has_exponent = skip('e') || skip('E');
        if (has_exponent) {
            if (!skip('+')) skip('-');
            digits();
        }
        if (!has_exponent && at_ - begin < always_finite) return;
        if (std::isinf(nearest_double(std::string(text_.substr(begin, at_ - begin))))) {
            refuse("numbers within double's range", in_quotes(text_.substr(begin, at_ - begin)));
        }
    }

    const std::string_view text_;
    const std::string& file_;
    const std::string& subject_;
    std::size_t at_ = 0;
    std::vector<std::string_view> names_;  // of all objects that are still open, the innermost one's last
    std::deque<std::string> decoded_;      // those of them that had an escape
};

}  // namespace

std::optional<Json> Json::find(std::string_view name) const {
    for (JsonWalk walk(*this); walk.next();) {
        if (walk.name() == name) return walk.value();
    }
    return std::nullopt;
}

std::string Json::text() const { return decoded(inside()); }

bool Json::operator==(std::string_view text) const {
    if (!is_text()) return false;
    return inside().find('\\') == std::string_view::npos ? inside() == text : decoded(inside()) == text;
}

std::optional<std::int64_t> Json::integer() const noexcept {
    if (!is_number()) return std::nullopt;
    const bool is_negative = first() == '-';
    std::int64_t value = 0;
    for (char c : raw_.substr(is_negative)) {
        if (!is_digit(c)) return std::nullopt;
        if (__builtin_mul_overflow(value, 10, &value)) return std::nullopt;
        if (__builtin_sub_overflow(value, c - '0', &value)) return std::nullopt;  // there is one more below zero
    }
    if (!is_negative && __builtin_sub_overflow(std::int64_t{0}, value, &value)) return std::nullopt;
    return value;
}

double Json::number() const {
    if (const auto whole = integer()) return static_cast<double>(*whole);
    return nearest_double(std::string(raw_));
}

bool JsonWalk::next() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n\t\r,"), rest_.size()));
    if (rest_[0] == ']' || rest_[0] == '}') return false;
    if (is_object_) {
        name_ = take();
        rest_.remove_prefix(rest_.find_first_not_of(" \n\t\r:"));
    }
    value_ = take();
    return true;
}

Json JsonWalk::take() {
    const std::size_t end = end_of_value(rest_);
    const Json value(rest_.substr(0, end));
    rest_.remove_prefix(end);
    return value;
}

Json parse_json(std::string_view text, const std::string& file, const std::string& subject) {
    return Json(Checker(text, file, subject).document());
}

std::string shown(Json value) {
    if (value.is_text()) return in_quotes(value.text());
    if (value.is_object() || value.is_array()) return value.is_array() ? "a list" : "an object";
    return std::string(value.raw().substr(0, 64));
}

}  // namespace packnet::detail
