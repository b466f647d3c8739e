#include "json.h"

#include <set>
#include <vector>

#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

/// Called by the parser at every step; refuses what the parser itself would let pass.
class Guard {
public:
    Guard(const std::string& file, const std::string& subject) : file_(file), subject_(subject) {}

    bool operator()(int depth, Json::parse_event_t event, const Json& value) {
        switch (event) {
            case Json::parse_event_t::object_start:
            case Json::parse_event_t::array_start:
                if (depth >= kMaxNesting) {
                    throw Error(file_, subject_, "at most " + std::to_string(kMaxNesting) + " levels of nesting",
                                "more");
                }
                names_.emplace_back();
                break;
            case Json::parse_event_t::object_end:
            case Json::parse_event_t::array_end: names_.pop_back(); break;
            case Json::parse_event_t::key:
                if (!names_.back().insert(value.get<std::string>()).second) {
                    throw Error(file_, subject_, "every name once in an object",
                                in_quotes(value.get<std::string>()) + " twice");
                }
                break;
            case Json::parse_event_t::value: break;
        }
        return true;
    }

private:
    const std::string& file_;
    const std::string& subject_;
    std::vector<std::set<std::string>> names_;  // of every object still open; empty sets for arrays
};

}  // namespace

Json parse_json(std::string_view text, const std::string& file, const std::string& subject) {
    // The parser would skip the mark, and take a zero byte for the text's end, whatever follows it.
    if (text.substr(0, 3) == "\xef\xbb\xbf" || text.find('\0') != std::string_view::npos) {
        throw Error(file, subject, "JSON in plain UTF-8", "a byte order mark or a zero byte");
    }
    try {
        return Json::parse(text.begin(), text.end(), Guard(file, subject));
    } catch (const Json::exception& error) {
        throw Error(file, subject, "JSON", in_quotes(std::string_view(error.what()).substr(0, 200)));
    }
}

std::string shown(const Json& value) {
    if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
    if (value.is_structured()) return value.is_array() ? "a list" : "an object";
    return value.dump();
}

}  // namespace packnet::detail
