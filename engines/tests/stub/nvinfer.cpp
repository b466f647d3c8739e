// TensorRT's stand-in: engines that run toy plans on the stand-in GPU. What it promises is in README.md.

#include <NvInferRuntime.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "stub.h"
#include "toy_plan.h"

namespace {

using namespace nvinfer1;

ILogger* first_logger = nullptr;  // the real library keeps it, too

void say(ILogger::Severity severity, const char* message) { first_logger->log(severity, message); }

bool refuse(const char* why) {
    say(ILogger::Severity::kERROR, why);
    return false;
}

Dims dims_of(const std::vector<std::int64_t>& sizes) {
    Dims dims{static_cast<std::int32_t>(sizes.size()), {}};
    std::copy(sizes.begin(), sizes.end(), dims.d);
    return dims;
}

DataType type_of(const std::string& name) {
    return name == "fp32" ? DataType::kFLOAT : name == "fp16" ? DataType::kHALF : DataType::kBF16;
}

/// What an engine and the work that runs on it share.
struct Core {
    ToyPlan plan;
    std::map<std::string, std::vector<std::byte>> refitted;  // the engine's own weights
    std::atomic<int> pending{0};                             // inferences that were enqueued and are not done
    std::atomic<int> version{0};                             // how often weights were replaced
};

class Context : public IExecutionContext {
public:
    explicit Context(std::shared_ptr<Core> core) : core_(std::move(core)) {
        stub_alive(1);
        stub_count(&StubCounts::contexts);
    }
    ~Context() noexcept override {
        if (*running_) stub_abort("a context that ends while it runs");
        stub_alive(-1);
    }

    bool setInputShape(const char*, const Dims& shape) noexcept override {
        const ToyPlan& plan = core_->plan;
        if (shape.nbDims != 4 || shape.d[0] < plan.batch[0] || shape.d[0] > plan.batch[1] ||
            !std::equal(plan.images.begin(), plan.images.end(), shape.d + 1)) {
            return refuse("IExecutionContext::setInputShape: dimensions are outside of the optimisation profile");
        }
        count_ = shape.d[0];
        return true;
    }

    Dims getTensorShape(const char* name) const noexcept override {
        if (std::string(name) == "logits") return dims_of({count_, core_->plan.logits});
        return dims_of({-1});
    }

    bool setTensorAddress(const char* name, void* address) noexcept override {
        if (reinterpret_cast<std::uintptr_t>(address) % 256) stub_abort("an address that is not aligned to 256 bytes");
        addresses_[name] = address;
        return true;
    }

    bool setInputTensorAddress(const char* name, const void* address) noexcept override {
        return setTensorAddress(name, const_cast<void*>(address));
    }

    bool enqueueV3(cudaStream_t stream) noexcept override {
        if (stub_fails("enqueueV3")) return refuse("IExecutionContext::enqueueV3: it failed");
        if (count_ == 0) return refuse("IExecutionContext::enqueueV3: no shape was set");
        const bool captured = stub_is_capturing(stream);
        if (captured && stub_fails("capture")) {
            stub_spoil_capture(stream);
            return refuse("IExecutionContext::enqueueV3: the work cannot be captured");
        }
        for (const char* name : {"images", "logits"}) {
            if (!addresses_[name]) return refuse("IExecutionContext::enqueueV3: an address was not set");
        }
        stub_count(&StubCounts::launches);
        if (!captured) ++core_->pending;
        const auto work = [=, core = core_, running = running_, addresses = addresses_, count = count_,
                           version = core_->version.load()] {
            if (running->exchange(true)) stub_abort("a context that runs twice at the same time");
            if (captured && version != core->version) stub_abort("a graph of weights that have been replaced");
            infer(*core, addresses, static_cast<std::size_t>(count));
            *running = false;
            if (!captured) --core->pending;
        };
        return stub_enqueue(stream, work) == cudaSuccess || refuse("IExecutionContext::enqueueV3: a CUDA error");
    }

private:
    static void infer(const Core& core, const std::map<std::string, void*>& addresses, std::size_t count) {
        const ToyPlan& plan = core.plan;
        std::int32_t task = 1;
        if (plan.has_task) std::memcpy(&task, stub_resolve(addresses.at("task"), 4), 4);
        ToyTensors weights;
        for (const ToyWeight& weight : plan.weights) {
            const std::byte* values;
            if (weight.source == "input") {
                values = stub_resolve(addresses.at(weight.name), weight.bytes());
            } else if (weight.source == "refit") {
                values = core.refitted.at(weight.name).data();
            } else {
                const std::size_t last = weight.values.size() - 1;
                values = weight.values[std::min(last, static_cast<std::size_t>(task - 1))].data();
            }
            weights[weight.name] = floats_of(weight.type, values, weight.size());
        }
        const auto image = static_cast<std::size_t>(plan.images[0] * plan.images[1] * plan.images[2]);
        const auto* const images =
            reinterpret_cast<const float*>(stub_resolve(addresses.at("images"), count * image * 4));
        std::vector<float> logits = run_toy_plan(plan, weights, images, count);
        std::memcpy(stub_resolve(addresses.at("logits"), logits.size() * 4), logits.data(), logits.size() * 4);
    }

    const std::shared_ptr<Core> core_;
    const std::shared_ptr<std::atomic<bool>> running_ = std::make_shared<std::atomic<bool>>(false);
    std::map<std::string, void*> addresses_;
    std::int64_t count_ = 0;
};

class Engine : public ICudaEngine {
public:
    explicit Engine(ToyPlan plan) : core(std::make_shared<Core>()) {
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
        return weight ? type_of(weight->type) : std::string(name) == "task" ? DataType::kINT32 : DataType::kFLOAT;
    }
    Dims getTensorShape(const char* name) const noexcept override {
        const ToyPlan& plan = core->plan;
        const std::int64_t batch = plan.batch[0] == plan.batch[1] ? plan.batch[0] : -1;
        if (std::string(name) == "images") return dims_of({batch, plan.images[0], plan.images[1], plan.images[2]});
        if (std::string(name) == "logits") return dims_of({batch, plan.logits});
        const ToyWeight* const weight = input(name);
        return weight ? dims_of(weight->shape) : dims_of({1});
    }
    Dims getProfileShape(const char*, std::int32_t, OptProfileSelector which) const noexcept override {
        const ToyPlan& plan = core->plan;
        return dims_of(
            {plan.batch[which == OptProfileSelector::kMIN ? 0 : 1], plan.images[0], plan.images[1], plan.images[2]});
    }
    bool isRefittable() const noexcept override { return !core->refitted.empty(); }
    IExecutionContext* createExecutionContext() noexcept override {
        if (stub_fails("createExecutionContext")) {
            refuse("ICudaEngine::createExecutionContext: out of memory");
            return nullptr;
        }
        return new Context(core);
    }

    const std::shared_ptr<Core> core;

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

class Refitter : public IRefitter {
public:
    explicit Refitter(Engine& engine) : core_(engine.core) { stub_alive(1); }
    ~Refitter() noexcept override { stub_alive(-1); }

    std::int32_t getAllWeights(std::int32_t size, const char** names) noexcept override {
        for (const auto& [name, values] : core_->refitted) {
            if (size-- > 0) *names++ = name.c_str();
        }
        return static_cast<std::int32_t>(core_->refitted.size());
    }
    /// What was merged with a weight that is given, and is not given itself.
    std::int32_t getMissingWeights(std::int32_t size, const char** names) noexcept override {
        std::set<std::string> missing;
        for (const auto& [one, other] : core_->plan.merged) {
            if (given_.count(one) && !given_.count(other)) missing.insert(other);
            if (given_.count(other) && !given_.count(one)) missing.insert(one);
        }
        for (const std::string& name : missing) {
            if (size-- > 0) *names++ = core_->refitted.find(name)->first.c_str();
        }
        return static_cast<std::int32_t>(missing.size());
    }
    Weights getWeightsPrototype(const char* name) const noexcept override {
        for (const ToyWeight& weight : core_->plan.weights) {
            if (weight.source != "refit" || weight.name != name) continue;
            return {type_of(weight.type), nullptr, static_cast<std::int64_t>(weight.size())};
        }
        return {DataType::kFLOAT, nullptr, -1};
    }
    bool setNamedWeights(const char* name, Weights weights, TensorLocation location) noexcept override {
        if (location != TensorLocation::kDEVICE || weights.count != getWeightsPrototype(name).count) {
            return refuse("IRefitter::setNamedWeights: other weights are expected");
        }
        given_[name] = weights.values;
        return true;
    }
    bool unsetNamedWeights(const char* name) noexcept override { return given_.erase(name) == 1; }
    void setWeightsValidation(bool validates) noexcept override { stub_count(&StubCounts::unvalidated, !validates); }
    bool setMaxThreads(std::int32_t) noexcept override { return true; }
    bool refitCudaEngineAsync(cudaStream_t stream) noexcept override {
        if (core_->pending) stub_abort("a refit amid requests");
        if (getMissingWeights(0, nullptr)) return refuse("IRefitter::refitCudaEngineAsync: weights are missing");
        const bool fails = stub_fails("refit");
        stub_count(&StubCounts::refits);
        stub_count(&StubCounts::refitted, given_.size());
        ++core_->version;
        const auto work = [core = core_, given = given_, fails] {
            bool is_first = true;
            for (const auto& [name, address] : given) {
                if (fails && !is_first) break;  // half way
                is_first = false;
                std::vector<std::byte>& values = core->refitted[name];
                std::memcpy(values.data(), stub_resolve(address, values.size()), values.size());
            }
        };
        const bool enqueued = stub_enqueue(stream, work) == cudaSuccess;
        return (enqueued && !fails) || refuse("IRefitter::refitCudaEngineAsync: it failed half way");
    }

private:
    const std::shared_ptr<Core> core_;
    std::map<std::string, const void*> given_;
};

class Runtime : public IRuntime {
public:
    ICudaEngine* deserializeCudaEngine(const void* plan, std::size_t size) noexcept override {
        ToyPlan parsed;
        if (!parse_toy_plan({static_cast<const char*>(plan), size}, parsed)) {
            refuse("IRuntime::deserializeCudaEngine: Serialization assertion stdVersionRead == kVERSION failed.");
            return nullptr;
        }
        say(ILogger::Severity::kINFO, "Loaded engine size: 0 MiB");
        return new Engine(std::move(parsed));
    }
};

}  // namespace

namespace nvinfer1 {

IRuntime* createInferRuntime(ILogger& logger) noexcept {
    if (!first_logger) first_logger = &logger;
    return new Runtime;
}

IRefitter* createInferRefitter(ICudaEngine& engine, ILogger&) noexcept {
    return new Refitter(static_cast<Engine&>(engine));
}

}  // namespace nvinfer1

extern "C" {
std::int32_t getInferLibMajorVersion() noexcept { return NV_TENSORRT_MAJOR; }
std::int32_t getInferLibMinorVersion() noexcept { return NV_TENSORRT_MINOR; }
std::int32_t getInferLibPatchVersion() noexcept { return NV_TENSORRT_PATCH; }
std::int32_t getInferLibBuildVersion() noexcept { return NV_TENSORRT_BUILD; }
}
