/// @file
/// A value of a JSON document that knows the way to it, so that every message names it: `tasks[2].name`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "packnet/error.h"
#include "packnet/input.h"

namespace packnet::detail {

/// Points into the document and the file's name, which must outlive it. Every function throws Error where the value is
/// not what is asked for.
struct Field {
    const std::string& file;
    std::string name;
    Json value;

    [[noreturn]] void refuse(const std::string& expected) const;

    /// A member of an object.
    Field at(const char* key) const;

    /// A member that need not be there.
    std::optional<Field> find(const char* key) const;

    /// That an object has these members and no others.
    void has_only(std::initializer_list<std::string_view> keys) const;

    /// Call `work(Field)` for each item of a list, in order. However long it is, it takes no memory.
    template <typename Work>
    void for_each(const Work& work) const {
        if (!value.is_array()) refuse("a list");
        std::size_t index = 0;
        for (JsonWalk walk(value); walk.next();) {
            work(Field{file, name + '[' + std::to_string(index++) + ']', walk.value()});
        }
    }

    /// The items of a list of at most `most`.
    std::vector<Field> items(std::size_t most) const;

    std::string text(bool allowed(std::string_view), const char* expected) const;
    std::string printable() const;
    std::vector<std::string> printables() const;
    std::string sha256() const;
    void must_be(std::string_view expected) const;
    bool truth() const;
    std::int64_t integer(std::int64_t least, std::int64_t most) const;
    std::int64_t count() const;

    /// The sizes of a weight: 1 to 8, each at least 1, such as a network can have.
    std::vector<std::int64_t> shape() const;

    /// A float32 of at least `least`.
    float number(double least) const;
    std::vector<float> numbers(int channels, double least) const;
};

/// A description of an input, as pack.json, the delta of a task and the sidecar of a plan have it.
InputSpec parse_input(const Field& input);

}  // namespace packnet::detail
