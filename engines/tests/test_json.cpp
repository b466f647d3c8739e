// The JSON reader: what it takes, what it refuses, and that hostile documents cost no more than they weigh.

#include <chrono>
#include <cmath>

#include "check.h"
#include "json_text.h"

namespace {

using packnet::detail::Json;
using packnet::detail::JsonWalk;

Json parse(const std::string& text) { return packnet::detail::parse_json(text, "x.json", "damaged"); }

void refused(const std::string& text, const std::string& words) {
    check_refused(text.substr(0, 40), words, [&] { parse(text); });
}

void accepted(const std::string& text) { parse(text); }

std::string nested(int levels) { return std::string(levels, '[') + std::string(levels, ']'); }

/// How long checking a document and going through its members takes, in seconds.
double seconds_for(const std::string& text) {
    const auto start = std::chrono::steady_clock::now();
    const Json document = parse(text);
    CHECK(!document.find("none"));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// An object of `count` objects with one more inside each: 481 KB of them took 9.5 s once.
std::string siblings(int count) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) text += (i ? ", " : "") + json_of(std::to_string(i)) + R"(: {"a": {}})";
    return text + "}";
}

}  // namespace

TEST(what_rfc_8259_allows_is_read) {
    for (const char* text : {"0", "-0", "-1.5e+3", "1E-9", "true", "false", "null", "\"\"", "[]", "{}", " [ 1 , 2 ] ",
                             "{\"a\":[{}]}", "\t\r\n{ \"\" : null }\n"}) {
        accepted(text);
    }
}

TEST(what_it_does_not_is_refused) {
    for (const char* text :
         {"",           " ",     "tru", "nulll",    "+1",        "01",       "1.",      ".5",
          "1e",         "1e+",   "-",   "[1,]",     "[,1]",      "[1 2]",    "{\"a\"}", "{\"a\":}",
          "{\"a\":1,}", "{1:2}", "[",   "{\"a\":1", "\"a",       "\"a\nb\"", "\"\\x\"", "\"\\u12g4\"",
          "\"\\u12",    "'a'",   "NaN", "Infinity", "-Infinity", "1 2",      "//",      "[1]]"}) {
        refused(text, "damaged: expected JSON");
    }
}

TEST(what_other_readers_would_take_differently_is_refused) {
    refused(std::string("[1]\0", 4), "a zero byte at byte 3");
    refused("\xef\xbb\xbf[]", "a byte order mark");
    for (const char* text : {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"",
                             "\"\xf0\x80\x80\x80\"", "\"\x80\"", "\"\xe0\x9f\xbf\""}) {
        refused(text, "expected JSON in plain UTF-8");
    }
    for (const char* text : {R"("\ud800")", R"("\udc00")", R"("\ud800\u0041")", R"("\ud800x")", R"({"\ud800": 1})"}) {
        refused(text, "a lone surrogate");
    }
    refused(R"({"a": 1, "b": 2, "a": 3})", "'a' twice");
    refused(R"({"a": 1, "\u0061": 2})", "'a' twice");
    accepted(R"({"a": {"a": 1}, "b": {"a": 1}})");
    accepted(nested(64));
    refused(nested(65), "at most 64 levels of nesting");
    refused(nested(100'000), "at most 64 levels of nesting");
    for (const std::string& text : {std::string("1e309"), "-1" + std::string(309, '0'), std::string(5000, '9')}) {
        refused(text, "numbers within double's range");
    }
    for (const std::string& text : {std::string("1e308"), "1" + std::string(308, '0'), std::string("1e-9999")}) {
        accepted(text);
    }
}

TEST(texts_are_decoded) {
    const std::string text = R"("a\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00€")";
    CHECK_EQUAL(parse(text).text(), "a\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xe2\x82\xac");
    const std::string object = R"({"\u0061": 1})";
    CHECK(parse(object).find("a").has_value());
}

TEST(numbers_are_what_they_say) {
    const auto integer = [](const std::string& text) { return parse(text).integer(); };
    CHECK(integer("9223372036854775807") == INT64_MAX);
    CHECK(integer("-9223372036854775808") == INT64_MIN);
    for (const char* text : {"9223372036854775808", "-9223372036854775809", "1.0", "1e2", "\"1\"", "true"}) {
        CHECK(!integer(text));
    }
    const auto number = [](const std::string& text) { return parse(text).number(); };
    CHECK_EQUAL(number("0.1"), 0.1);
    CHECK_EQUAL(number("123456789012345678901234567890"), 123456789012345678901234567890.0);
    CHECK(!std::signbit(number("-0")) && std::signbit(number("-0.0")));
}

TEST(lists_and_objects_are_gone_through_in_order) {
    const std::string text = R"({"a": [1, {"}": "]"}, "\"]"] , "b":{"c":[]},"d":-1.5})";
    std::string names, values;
    for (JsonWalk walk(parse(text)); walk.next();) {
        names += walk.name().text();
        values += std::string(walk.value().raw()) + '|';
    }
    CHECK_EQUAL(names, "abd");
    CHECK_EQUAL(values, R"([1, {"}": "]"}, "\"]"]|{"c":[]}|-1.5|)");
}

TEST(many_siblings_take_linear_time) {
    const double once = seconds_for(siblings(8'000)), ten_times = seconds_for(siblings(80'000));
    CHECK(ten_times < 40 * once + 0.1);  // quadratic would be 100; sorting and caches cost a little
}
