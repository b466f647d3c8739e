/// @file
/// Strict JSON (RFC 8259 and docs/format.md's rules), checked whole in one pass and then read where it lies.
///
/// There is no tree: a value is a view of its text. A document of any shape takes linear time and no memory of its
/// own, the names of objects that are still open apart, so a hostile one costs about what it weighs. Texts, and names
/// with an escape, are decoded when they are asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace packnet::detail {

inline constexpr int kMaxNesting = 64;  // arrays and objects within each other, the outermost one included
inline constexpr std::ptrdiff_t kMaxParts = std::ptrdiff_t{1} << 18;  // commas and opening brackets, in texts too

/// One value of a checked document, which must outlive it. Cheap to copy.
class Json {
public:
    bool is_object() const noexcept { return first() == '{'; }
    bool is_array() const noexcept { return first() == '['; }
    bool is_text() const noexcept { return first() == '"'; }
    bool is_truth() const noexcept { return first() == 't' || first() == 'f'; }
    bool is_null() const noexcept { return first() == 'n'; }
    bool is_number() const noexcept { return first() == '-' || ('0' <= first() && first() <= '9'); }

    /// As it stands in the document, from its first character to its last.
    std::string_view raw() const noexcept { return raw_; }

    /// A member of an object, found by going through those before it.
    std::optional<Json> find(std::string_view name) const;

    /// The characters of a text, in UTF-8.
    std::string text() const;

    bool truth() const noexcept { return first() == 't'; }

    /// A number without fraction and exponent; nothing where it has one, or needs more than 64 bits.
    std::optional<std::int64_t> integer() const noexcept;

    /// The nearest double, which is finite. An integer has no negative zero.
    double number() const;

    /// Whether it is this very text.
    bool operator==(std::string_view text) const;

private:
    friend class JsonWalk;
    friend Json parse_json(std::string_view text, const std::string& file, const std::string& subject);
    explicit Json(std::string_view raw) : raw_(raw) {}

    char first() const noexcept { return raw_[0]; }
    std::string_view inside() const noexcept { return raw_.substr(1, raw_.size() - 2); }  // of a text: its quotes

    std::string_view raw_;
};

/// Goes through an array or an object:
///
///     for (JsonWalk walk(list); walk.next();) use(walk.value());
class JsonWalk {
public:
    explicit JsonWalk(Json container) : rest_(container.raw_.substr(1)), is_object_(container.is_object()) {}

    /// Go to the next item or member; false where there is none.
    bool next();

    Json value() const noexcept { return value_; }
    Json name() const noexcept { return name_; }  // of a member: a text

private:
    Json take();

    std::string_view rest_;
    bool is_object_;
    Json name_{std::string_view()}, value_{std::string_view()};
};

/// Check one JSON document: UTF-8 without a byte order mark, no name twice in one object, no lone surrogates, no number
/// beyond double, nested at most kMaxNesting deep, of at most kMaxParts.
/// @param text           what the result points into.
/// @param file, subject  for messages.
/// @throws Error         anything else.
Json parse_json(std::string_view text, const std::string& file, const std::string& subject);

/// For messages: a short, printable rendering of `value`.
std::string shown(Json value);

}  // namespace packnet::detail
