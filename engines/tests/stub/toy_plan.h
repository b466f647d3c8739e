/// @file
/// A toy plan: the text that the stand-in for TensorRT deserialises. One statement a line, words between spaces.
///
///     toy-plan
///     images 3 17 19                    channels, height, width
///     batch 1 8                         least and most images
///     logits 5                          classes
///     task                              there is an input "task", int32 [1]
///     weight NAME TYPE SOURCE SIZES...  TYPE: fp32, fp16, bf16. SOURCE: input, refit, or inside: then, a line for each
///     values HEX                        task, from 1 (one line: whatever the task), its bytes
///     conv WEIGHT SHIFT STRIDE PAD SCALE  over what comes before, times SCALE ("-": 1), plus SHIFT, and ReLU
///     pool                              the mean of each channel: the logits
///     merged WEIGHT WEIGHT              TensorRT has merged the two: it takes both, or neither
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

struct ToyWeight {
    std::string name, type, source;
    std::vector<std::int64_t> shape;
    std::vector<std::vector<std::byte>> values;  // by task

    std::size_t size() const {
        std::size_t product = 1;
        for (std::int64_t size : shape) product *= static_cast<std::size_t>(size);
        return product;
    }
    std::size_t bytes() const { return size() * (type == "fp32" ? 4 : 2); }
};

struct ToyConv {
    std::string weight, shift;
    int stride, pad;
    std::string scale;
};

struct ToyPlan {
    std::array<std::int64_t, 3> images{};
    std::array<std::int64_t, 2> batch{};
    std::int64_t logits = 0;
    bool has_task = false;
    std::vector<ToyWeight> weights;
    std::vector<ToyConv> convs;
    std::vector<std::pair<std::string, std::string>> merged;
};

/// @return  false where the text is no toy plan.
bool parse_toy_plan(const std::string& text, ToyPlan& plan);

std::string text_of(const ToyPlan& plan);

/// The network's logits, [count, logits].
/// @param weight  the values of one of plan.weights, as float32.
using ToyTensors = std::map<std::string, std::vector<float>>;
std::vector<float> run_toy_plan(const ToyPlan& plan, const ToyTensors& weights, const float* images, std::size_t count);

/// Typed values as float32.
std::vector<float> floats_of(const std::string& type, const std::byte* values, std::size_t count);
