// packnet-infer: what a plan sees in image files, and how fast.
//
//     packnet-infer PACK PLAN TASK IMAGE...           the five likeliest classes of each image
//     packnet-infer PACK PLAN TASK IMAGE --bench      latency, p50 and p99, copies included, a batch of all images
//     packnet-infer PACK PLAN --switch-bench          time of a switch, p50 and p99, every task in turn
//
// Exit codes: 0 done, 2 usage, 3 the machine lacks something, 4 a file is damaged or does not fit.

#include <packnet/engine.h>
#include <packnet/preprocess.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "picture.h"

namespace {

constexpr int kShown = 5;    // classes of an image
constexpr int kWarmUp = 20;  // runs that are not counted
constexpr int kMeasured = 200;

const char* const kUsage =
    "usage: packnet-infer PACK PLAN TASK IMAGE... [--bench]\n"
    "       packnet-infer PACK PLAN --switch-bench\n";

double milliseconds(const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

void print_percentiles(const char* what, std::vector<double> times) {
    std::sort(times.begin(), times.end());
    const std::size_t last = times.size() - 1;
    std::printf("%s: p50 %.3f ms, p99 %.3f ms, %zu runs\n", what, times[last / 2], times[last * 99 / 100],
                times.size());
}

/// The network's input for image files: float32 [files, channels, height, width].
std::vector<float> read_images(const packnet::InputSpec& input, const std::vector<std::string>& files) {
    std::vector<float> images(files.size() * input.image_size());
    for (std::size_t i = 0; i < files.size(); ++i) {
        const std::vector<std::uint8_t> pixels = packnet::centre(input, PictureFile(files[i]).picture());
        packnet::normalise(input, pixels.data(), 1, &images[i * input.image_size()]);
    }
    return images;
}

/// The likeliest classes, with their share of the softmax.
void print_best(const std::vector<std::string>& names, const float* logits) {
    std::vector<std::size_t> order(names.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto shown = std::min<std::size_t>(kShown, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                      [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    double total = 0;
    for (std::size_t i = 0; i < names.size(); ++i) total += std::exp(double{logits[i]} - double{logits[order[0]]});
    for (std::size_t i = 0; i < shown; ++i) {
        const double share = std::exp(double{logits[order[i]]} - double{logits[order[0]]}) / total;
        std::printf("  %5.1f %%  %s\n", 100 * share, names[order[i]].c_str());
    }
}

void classify(packnet::Engine& engine, const std::string& task, const std::vector<std::string>& files, bool bench) {
    engine.set_task(task);
    const std::vector<float> images = read_images(engine.input(task), files);
    if (bench) {
        std::vector<double> times;
        for (int run = -kWarmUp; run < kMeasured; ++run) {
            const double time = milliseconds([&] { engine.infer(images.data(), files.size()); });
            if (run >= 0) times.push_back(time);
        }
        print_percentiles(("batch " + std::to_string(files.size())).c_str(), times);
        return;
    }
    const std::vector<std::string>& names = engine.class_names(task);
    std::vector<float> logits;
    const double time = milliseconds([&] { logits = engine.infer(images.data(), files.size()); });
    for (std::size_t i = 0; i < files.size(); ++i) {
        std::printf("%s\n", files[i].c_str());
        print_best(names, &logits[i * names.size()]);
    }
    std::printf("%zu images in %.3f ms, the first run\n", files.size(), time);
}

void bench_switches(packnet::Engine& engine) {
    const std::vector<std::string> tasks = engine.tasks();
    if (tasks.size() < 2) throw packnet::Error({}, "--switch-bench", "a plan of two tasks or more", "one");
    std::vector<double> times;
    for (int run = -kWarmUp; run < kMeasured; ++run) {
        const std::string& task = tasks[static_cast<std::size_t>(run + kWarmUp) % tasks.size()];
        const double time = milliseconds([&] { engine.set_task(task); });
        if (run >= 0) times.push_back(time);
    }
    print_percentiles("switch", times);
}

int run(std::vector<std::string> words) {
    const auto take_flag = [&](const char* flag) {
        const auto found = std::find(words.begin(), words.end(), flag);
        if (found == words.end()) return false;
        words.erase(found);
        return true;
    };
    const bool bench = take_flag("--bench"), switch_bench = take_flag("--switch-bench");
    const bool unknown = std::any_of(words.begin(), words.end(), [](const auto& word) { return word[0] == '-'; });
    if (unknown || (switch_bench ? bench || words.size() != 2 : words.size() < 4)) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    packnet::Engine engine(words[1], packnet::open_pack(words[0]));
    if (switch_bench) {
        bench_switches(engine);
    } else {
        classify(engine, words[2], {words.begin() + 3, words.end()}, bench);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run({argv + 1, argv + argc});
    } catch (const packnet::EnvironmentFault& fault) {
        std::fprintf(stderr, "packnet-infer: %s\n", fault.what());
        return 3;
    } catch (const packnet::Error& error) {
        std::fprintf(stderr, "packnet-infer: %s\n", error.what());
        return 4;
    }
}
