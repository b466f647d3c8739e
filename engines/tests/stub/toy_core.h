/// @file
/// An engine of TensorRT's stand-in: what it shares with its contexts, its refitter, and the work that runs on it.
#pragma once

#include <NvInferRuntime.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "toy_plan.h"

struct ToyCore {
    ToyPlan plan;
    std::map<std::string, std::vector<std::byte>> refitted;  // the engine's own weights
    std::atomic<int> pending{0};                             // inferences that were enqueued and are not done
    std::atomic<int> version{0};                             // how often weights were replaced
};

nvinfer1::DataType toy_type_of(const std::string& name);
nvinfer1::Dims toy_dims_of(const std::vector<std::int64_t>& sizes);

/// Log an error. False.
bool toy_refuse(const char* why);

nvinfer1::IExecutionContext* make_toy_context(std::shared_ptr<ToyCore> core);
nvinfer1::IRefitter* make_toy_refitter(std::shared_ptr<ToyCore> core);
