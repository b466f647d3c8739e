/// @file
/// A value of a JSON document that knows the way to it, so that every message names it: `tasks[2].name`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "packnet/input.h"

namespace packnet::detail {

/// Points into the document and the file's name, which must outlive it. Every function throws Error where the value is
/// not what is asked for.
struct Field {
    const std::string& file;
    std::string name;
    const Json& value;

    [[noreturn]] void refuse(const std::string& expected) const;

    /// A member of an object.
    Field at(const char* key) const;

    /// All of a list.
    std::vector<Field> items() const;

    std::string text(bool allowed(std::string_view), const char* expected) const;
    std::string printable() const;
    std::string sha256() const;
    void must_be(const std::string& expected) const;
    bool truth() const;
    std::int64_t integer(std::int64_t least, std::int64_t most) const;
    std::int64_t count() const;

    /// A float32 of at least `least`.
    float number(double least) const;
    std::vector<float> numbers(int channels, double least) const;
};

/// A description of an input, as pack.json, the delta of a task and the sidecar of a plan have it.
InputSpec parse_input(const Field& input);

}  // namespace packnet::detail
