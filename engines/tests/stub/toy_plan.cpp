#include "toy_plan.h"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "float16.h"

namespace {

using Plane = std::vector<float>;  // [channels, height, width]

struct Shape {
    std::int64_t channels, height, width;
    std::size_t size() const { return static_cast<std::size_t>(channels * height * width); }
};

Plane conv_relu(const Plane& in, Shape& shape, const ToyWeight& weight, const std::vector<float>& values,
                const std::vector<float>& shift, const std::vector<float>& scale, int stride, int pad) {
    const std::int64_t outputs = weight.shape[0], inputs = weight.shape[1], rows = weight.shape[2],
                       columns = weight.shape[3];
    const Shape result{outputs, (shape.height + 2 * pad - rows) / stride + 1,
                       (shape.width + 2 * pad - columns) / stride + 1};
    Plane out;
    out.reserve(result.size());
    for (std::int64_t o = 0; o < outputs; ++o) {
        for (std::int64_t y = 0; y < result.height; ++y) {
            for (std::int64_t x = 0; x < result.width; ++x) {
                double sum = 0;
                for (std::int64_t i = 0; i < inputs; ++i) {
                    for (std::int64_t r = 0; r < rows; ++r) {
                        for (std::int64_t c = 0; c < columns; ++c) {
                            const std::int64_t v = y * stride + r - pad, u = x * stride + c - pad;
                            if (v < 0 || v >= shape.height || u < 0 || u >= shape.width) continue;
                            const auto at = static_cast<std::size_t>(((o * inputs + i) * rows + r) * columns + c);
                            const auto from = static_cast<std::size_t>((i * shape.height + v) * shape.width + u);
                            sum += static_cast<double>(values[at]) * static_cast<double>(in[from]);
                        }
                    }
                }
                const auto channel = static_cast<std::size_t>(o);
                if (!scale.empty()) sum *= static_cast<double>(scale[channel]);
                sum += static_cast<double>(shift[channel]);
                out.push_back(static_cast<float>(std::max(sum, 0.0)));
            }
        }
    }
    shape = result;
    return out;
}

std::vector<std::byte> bytes_of_hex(const std::string& hex) {
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

}  // namespace

bool parse_toy_plan(const std::string& text, ToyPlan& plan) {
    std::istringstream lines(text);
    std::string line, word;
    if (!std::getline(lines, line) || line != "toy-plan") return false;
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        words >> word;
        if (word == "images") {
            words >> plan.images[0] >> plan.images[1] >> plan.images[2];
        } else if (word == "batch") {
            words >> plan.batch[0] >> plan.batch[1];
        } else if (word == "logits") {
            words >> plan.logits;
        } else if (word == "task") {
            plan.has_task = true;
        } else if (word == "weight") {
            ToyWeight weight;
            words >> weight.name >> weight.type >> weight.source;
            for (std::int64_t size; words >> size;) weight.shape.push_back(size);
            plan.weights.push_back(std::move(weight));
        } else if (word == "values") {
            words >> word;
            plan.weights.back().values.push_back(bytes_of_hex(word));
        } else if (word == "conv") {
            ToyConv conv;
            words >> conv.weight >> conv.shift >> conv.stride >> conv.pad >> conv.scale;
            plan.convs.push_back(std::move(conv));
        } else if (word == "merged") {
            auto& [one, other] = plan.merged.emplace_back();
            words >> one >> other;
        } else if (word != "pool") {
            return false;
        }
    }
    return true;
}

std::string text_of(const ToyPlan& plan) {
    std::ostringstream text;
    text << "toy-plan\nimages " << plan.images[0] << ' ' << plan.images[1] << ' ' << plan.images[2] << "\nbatch "
         << plan.batch[0] << ' ' << plan.batch[1] << "\nlogits " << plan.logits << '\n';
    if (plan.has_task) text << "task\n";
    for (const ToyWeight& weight : plan.weights) {
        text << "weight " << weight.name << ' ' << weight.type << ' ' << weight.source;
        for (std::int64_t size : weight.shape) text << ' ' << size;
        for (const std::vector<std::byte>& values : weight.values) {
            text << "\nvalues ";
            for (std::byte byte : values) {
                const char* const digits = "0123456789abcdef";
                text << digits[static_cast<unsigned>(byte) >> 4] << digits[static_cast<unsigned>(byte) & 15];
            }
        }
        text << '\n';
    }
    for (const ToyConv& conv : plan.convs) {
        text << "conv " << conv.weight << ' ' << conv.shift << ' ' << conv.stride << ' ' << conv.pad << ' '
             << conv.scale << '\n';
    }
    text << "pool\n";
    for (const auto& [one, other] : plan.merged) text << "merged " << one << ' ' << other << '\n';
    return text.str();
}

std::vector<float> floats_of(const std::string& type, const std::byte* values, std::size_t count) {
    std::vector<float> floats(count);
    for (std::size_t i = 0; i < count; ++i) {
        if (type == "fp32") {
            std::memcpy(&floats[i], values + 4 * i, 4);
            continue;
        }
        std::uint16_t bits;
        std::memcpy(&bits, values + 2 * i, 2);
        floats[i] = type == "fp16" ? packnet::detail::float_of_half(bits) : packnet::detail::float_of_bfloat16(bits);
    }
    return floats;
}

std::vector<float> run_toy_plan(const ToyPlan& plan, const ToyTensors& weights, const float* images,
                                std::size_t count) {
    std::vector<float> logits;
    for (std::size_t image = 0; image < count; ++image) {
        Shape shape{plan.images[0], plan.images[1], plan.images[2]};
        Plane plane(images + image * shape.size(), images + (image + 1) * shape.size());
        for (const ToyConv& conv : plan.convs) {
            const auto named = [&](const ToyWeight& weight) { return weight.name == conv.weight; };
            const ToyWeight& weight = *std::find_if(plan.weights.begin(), plan.weights.end(), named);
            const std::vector<float> scale = conv.scale == "-" ? std::vector<float>() : weights.at(conv.scale);
            plane = conv_relu(plane, shape, weight, weights.at(conv.weight), weights.at(conv.shift), scale, conv.stride,
                              conv.pad);
        }
        const auto area = static_cast<std::size_t>(shape.height * shape.width);
        for (std::size_t channel = 0; channel < static_cast<std::size_t>(shape.channels); ++channel) {
            double sum = 0;
            for (std::size_t i = 0; i < area; ++i) sum += static_cast<double>(plane[channel * area + i]);
            logits.push_back(static_cast<float>(sum / static_cast<double>(area)));
        }
    }
    return logits;
}
