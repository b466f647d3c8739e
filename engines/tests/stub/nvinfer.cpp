// TensorRT's stand-in: engines that run toy plans on the stand-in GPU. What it promises is in README.md.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "stub.h"
#include "toy_core.h"

namespace {

using namespace nvinfer1;

ILogger* first_logger = nullptr;  // the real library keeps it, too

void say(ILogger::Severity severity, const char* message) { first_logger->log(severity, message); }

class Engine : public ICudaEngine {
public:
    explicit Engine(ToyPlan plan) : core(std::make_shared<ToyCore>()) {
        core->plan = std::move(plan);
        for (const ToyWeight& weight : core->plan.weights) {
            if (weight.source == "refit") core->refitted[weight.name].resize(weight.bytes());
            if (weight.source == "input") inputs_.push_back(&weight);
        }
        stub_engine_bytes(bytes());
        stub_alive(1);
        stub_count(&StubCounts::deserialised);
    }
    ~Engine() noexcept override {
        if (core->pending) stub_abort("an engine that ends while it runs");
        stub_engine_bytes(-bytes());
        stub_alive(-1);
    }

    std::int32_t getNbIOTensors() const noexcept override {
        return static_cast<std::int32_t>(2 + core->plan.has_task + inputs_.size());
    }
    const char* getIOTensorName(std::int32_t index) const noexcept override {
        const auto number = static_cast<std::size_t>(index);
        if (number < inputs_.size()) return inputs_[number]->name.c_str();
        const char* const others[] = {"images", "logits", "task"};
        return others[number - inputs_.size()];
    }
    TensorIOMode getTensorIOMode(const char* name) const noexcept override {
        return std::string(name) == "logits" ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT;
    }
    DataType getTensorDataType(const char* name) const noexcept override {
        const ToyWeight* const weight = input(name);
        return weight ? toy_type_of(weight->type) : std::string(name) == "task" ? DataType::kINT32 : DataType::kFLOAT;
    }
    Dims getTensorShape(const char* name) const noexcept override {
        const ToyPlan& plan = core->plan;
        const std::int64_t batch = plan.batch[0] == plan.batch[1] ? plan.batch[0] : -1;
        if (std::string(name) == "images") return toy_dims_of({batch, plan.images[0], plan.images[1], plan.images[2]});
        if (std::string(name) == "logits") return toy_dims_of({batch, plan.logits});
        const ToyWeight* const weight = input(name);
        return weight ? toy_dims_of(weight->shape) : toy_dims_of({1});
    }
    Dims getProfileShape(const char*, std::int32_t, OptProfileSelector which) const noexcept override {
        const ToyPlan& plan = core->plan;
        return toy_dims_of(
            {plan.batch[which == OptProfileSelector::kMIN ? 0 : 1], plan.images[0], plan.images[1], plan.images[2]});
    }
    bool isRefittable() const noexcept override { return !core->refitted.empty(); }
    IExecutionContext* createExecutionContext() noexcept override {
        if (stub_fails("createExecutionContext")) {
            toy_refuse("ICudaEngine::createExecutionContext: out of memory");
            return nullptr;
        }
        return make_toy_context(core);
    }

    const std::shared_ptr<ToyCore> core;

private:
    /// Of the weights that it holds itself.
    std::ptrdiff_t bytes() const {
        std::size_t sum = 0;
        for (const ToyWeight& weight : core->plan.weights) {
            if (weight.source != "input") sum += weight.bytes() * std::max<std::size_t>(1, weight.values.size());
        }
        return static_cast<std::ptrdiff_t>(sum);
    }

    const ToyWeight* input(const char* name) const {
        for (const ToyWeight* weight : inputs_) {
            if (weight->name == name) return weight;
        }
        return nullptr;
    }

    std::vector<const ToyWeight*> inputs_;
};

class Runtime : public IRuntime {
public:
    ICudaEngine* deserializeCudaEngine(const void* plan, std::size_t size) noexcept override {
        ToyPlan parsed;
        if (!parse_toy_plan({static_cast<const char*>(plan), size}, parsed)) {
            toy_refuse("IRuntime::deserializeCudaEngine: Serialization assertion stdVersionRead == kVERSION failed.");
            return nullptr;
        }
        say(ILogger::Severity::kINFO, "Loaded engine size: 0 MiB");
        return new Engine(std::move(parsed));
    }
};

}  // namespace

bool toy_refuse(const char* why) {
    say(ILogger::Severity::kERROR, why);
    return false;
}

Dims toy_dims_of(const std::vector<std::int64_t>& sizes) {
    Dims dims{static_cast<std::int32_t>(sizes.size()), {}};
    std::copy(sizes.begin(), sizes.end(), dims.d);
    return dims;
}

DataType toy_type_of(const std::string& name) {
    return name == "fp32" ? DataType::kFLOAT : name == "fp16" ? DataType::kHALF : DataType::kBF16;
}

namespace nvinfer1 {

IRuntime* createInferRuntime(ILogger& logger) noexcept {
    if (!first_logger) first_logger = &logger;
    return new Runtime;
}

IRefitter* createInferRefitter(ICudaEngine& engine, ILogger&) noexcept {
    return make_toy_refitter(static_cast<Engine&>(engine).core);
}

}  // namespace nvinfer1

extern "C" {
std::int32_t getInferLibMajorVersion() noexcept { return NV_TENSORRT_MAJOR; }
std::int32_t getInferLibMinorVersion() noexcept { return NV_TENSORRT_MINOR; }
std::int32_t getInferLibPatchVersion() noexcept { return NV_TENSORRT_PATCH; }
std::int32_t getInferLibBuildVersion() noexcept { return NV_TENSORRT_BUILD; }
}
