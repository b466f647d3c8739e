/// @file
/// Engines of the golden pack's network on the stand-ins, and what their tests hold them against.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "golden.h"
#include "packnet/engine.h"
#include "stub/stub.h"
#include "toy_plans.h"

using packnet::Context;
using packnet::Engine;
using packnet::EngineOptions;
using packnet::Precision;
using packnet::Switch;

inline const Switch kModes[] = {Switch::refit, Switch::bind, Switch::selector};
inline const char* const kTasks[] = {"shapes", "birds", "flowers"};

/// A copy of the golden pack with a plan beside it.
struct Plan {
    GoldenCopy pack;
    std::filesystem::path path = pack.path / "toy.plan";

    explicit Plan(const ToyOptions& options = {});
    explicit Plan(Switch mode);

    Engine open(const EngineOptions& options = {}) const { return Engine(path, pack.path, options); }
};

ToyOptions options_of(Switch mode);

EngineOptions resident(int tasks);
EngineOptions bank_on_device();

struct Case {
    Switch mode;
    EngineOptions options;
};

/// Every way to switch.
std::vector<Case> all_cases();

std::vector<float> probes();

/// What the training framework answered to the probe images.
const std::vector<float>& expected(const std::string& task);

bool close(const float* got, const float* wanted, std::size_t count);
bool is_answer(const std::vector<float>& got, const std::string& task);

/// Streams that run `microseconds` late, for as long as this lives.
struct Late {
    explicit Late(int microseconds) { stub_delay(microseconds); }
    ~Late() { stub_delay(0); }
};

/// A library that was built without a CUDA compiler, for as long as this lives.
struct WithoutKernels {
    WithoutKernels() { stub_without_kernels(true); }
    ~WithoutKernels() { stub_without_kernels(false); }
};

/// What an application brings: memory on the GPU and a stream of its own.
struct Mine {
    float* images = nullptr;
    float* logits = nullptr;
    cudaStream_t stream = nullptr;
    std::size_t room;

    Mine(const std::vector<float>& pixels, std::size_t width);
    ~Mine();

    /// The logits as they are when the stream has come so far, those of the task's classes.
    std::vector<float> wait(std::size_t classes) const;
};

void in_threads(int count, const std::function<void(int)>& work);
