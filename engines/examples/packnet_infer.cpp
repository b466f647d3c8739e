// packnet-infer: what a plan sees in image files, and how fast.
//
//     packnet-infer PACK PLAN TASK IMAGE...           the five likeliest classes of each image
//     packnet-infer PACK PLAN TASK IMAGE --bench      latency, p50 and p99, copies included, a batch of all images
//     packnet-infer PACK PLAN --switch-bench          time of a switch, p50 and p99, every task in turn
//     packnet-infer PACK PLAN --check                 every task's logits on this GPU, held against the pack's
//
// --cuda-graphs, --resident N, --bank device and --device N are the options of packnet.h.
//
// Exit codes: 0 done, 1 a check failed, 2 usage, 3 the machine lacks something, 4 a file is damaged or does not fit.

#include <packnet/engine.h>
#include <packnet/preprocess.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
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
    "usage: packnet-infer PACK PLAN TASK IMAGE... [--bench] [OPTION...]\n"
    "       packnet-infer PACK PLAN --switch-bench [OPTION...]\n"
    "       packnet-infer PACK PLAN --check [OPTION...]\n"
    "\n"
    "  --device N      the GPU  [default: 0]\n"
    "  --bank device   keep the weights of all tasks on the GPU  [default: in the host's memory]\n"
    "  --resident N    plans with switch bind: tasks on the GPU side by side  [default: 1]\n"
    "  --cuda-graphs   record a batch that comes again, and replay it\n";

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
    const std::vector<float> images = read_images(engine.input(task), files);
    std::vector<float> logits;
    const auto infer = [&] { engine.infer(task, images.data(), files.size(), logits); };
    if (bench) {
        std::vector<double> times;
        for (int run = -kWarmUp; run < kMeasured; ++run) {
            const double time = milliseconds(infer);
            if (run >= 0) times.push_back(time);
        }
        print_percentiles(("batch " + std::to_string(files.size())).c_str(), times);
        return;
    }
    const std::vector<std::string> names = engine.class_names(task);
    const double time = milliseconds(infer);
    for (std::size_t i = 0; i < files.size(); ++i) {
        std::printf("%s\n", files[i].c_str());
        print_best(names, &logits[i * names.size()]);
    }
    std::printf("%zu images in %.3f ms, the first run\n", files.size(), time);
}

void check(packnet::Engine& engine) {
    for (const std::string& task : engine.tasks()) {
        const packnet::Difference difference = engine.check(task);
        std::printf("%s: logits differ by up to %.3g, allowed is %.3g\n", task.c_str(), difference.largest,
                    difference.allowed);
    }
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
    const auto take_value = [&](const char* flag, const std::string& otherwise) {
        const auto found = std::find(words.begin(), words.end(), flag);
        if (found == words.end() || found + 1 == words.end()) return otherwise;
        const std::string value = found[1];
        words.erase(found, found + 2);
        return value;
    };
    const auto take_number = [&](const char* flag, int otherwise) {
        const std::string value = take_value(flag, std::to_string(otherwise));
        const bool is_number = value.size() < 5 && value.find_first_not_of("0123456789") == std::string::npos;
        return is_number ? std::atoi(value.c_str()) : -1;  // which the engine refuses by name
    };
    packnet::EngineOptions options;
    options.device = take_number("--device", options.device);
    options.resident = take_number("--resident", options.resident);
    options.cuda_graphs = take_flag("--cuda-graphs");
    const std::string bank = take_value("--bank", "");
    if (bank == "device") options.bank = PACKNET_BANK_DEVICE;
    const bool bench = take_flag("--bench"), switch_bench = take_flag("--switch-bench"), checks = take_flag("--check");
    const bool of_all_tasks = switch_bench || checks;
    const bool unknown = std::any_of(words.begin(), words.end(), [](const auto& word) { return word[0] == '-'; });
    const bool contradict = bench + switch_bench + checks > 1 || !(bank.empty() || bank == "host" || bank == "device");
    if (unknown || contradict || (of_all_tasks ? words.size() != 2 : words.size() < 4)) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    packnet::Engine engine(words[1], words[0], options);
    if (checks) {
        check(engine);
    } else if (switch_bench) {
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
    } catch (const packnet::CheckFailed& failure) {
        std::fprintf(stderr, "packnet-infer: %s\n", failure.what());
        return 1;
    } catch (const packnet::EnvironmentFault& fault) {
        std::fprintf(stderr, "packnet-infer: %s\n", fault.what());
        return 3;
    } catch (const packnet::Error& error) {
        std::fprintf(stderr, "packnet-infer: %s\n", error.what());
        return 4;
    }
}
