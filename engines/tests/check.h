/// @file
/// A test is a function that throws when something is wrong. `program [PART]` runs those with PART in their name.
#pragma once

#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "packnet/error.h"

struct Test {
    const char* name;
    void (*run)();
};

inline std::vector<Test>& all_tests() {
    static std::vector<Test> tests;
    return tests;
}

#define TEST(name)                                                                    \
    static void name();                                                               \
    static const bool name##_is_known = (all_tests().push_back({#name, name}), true); \
    static void name()

#define CHECK(condition) check(condition, __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(left, right) check_equal(left, right, __FILE__, __LINE__, #left " == " #right)

inline void check(bool holds, const char* file, int line, const std::string& what) {
    if (!holds) throw std::runtime_error(std::string(file) + ':' + std::to_string(line) + ": " + what);
}

inline std::string shown_value(const std::string& value) { return value; }
template <typename T>
std::string shown_value(const T& value) {
    if constexpr (std::is_arithmetic_v<T>) return std::to_string(value);
    return "(not shown)";
}

template <typename Left, typename Right>
void check_equal(const Left& left, const Right& right, const char* file, int line, const char* what) {
    check(left == right, file, line, std::string(what) + ": " + shown_value(left) + " and " + shown_value(right));
}

/// Run `work`, which must be refused with one readable line that has `words` in it.
template <typename Work>
void check_refused(const std::string& what, const std::string& words, const Work& work) {
    try {
        work();
    } catch (const packnet::Error& error) {
        const std::string line = error.what();
        check(line.find(words) != std::string::npos, what.c_str(), 0, "no '" + words + "' in: " + line);
        check(line.size() < 1000 && line.find('\n') == std::string::npos, what.c_str(), 0, "not one line: " + line);
        return;
    }
    check(false, what.c_str(), 0, "accepted");
}

int main(int argc, char** argv) {
    int failed = 0;
    for (const Test& test : all_tests()) {
        if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
        std::printf("%s\n", test.name);
        std::fflush(stdout);  // of a program that aborts, too
        try {
            test.run();
        } catch (const std::exception& error) {
            std::printf("  FAILED: %s\n", error.what());
            ++failed;
        }
    }
    std::printf("%d failed\n", failed);
    return failed != 0;
}
