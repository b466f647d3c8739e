#include "plan.h"

#include <map>
#include <set>

#include "cuda.h"
#include "tensorrt.h"
#include "text.h"
#include "weights.h"

namespace packnet::detail {
namespace {

namespace trt = nvinfer1;

constexpr const char* kImages = "images";
constexpr const char* kLogits = "logits";
constexpr const char* kTask = "task";
constexpr const char* kBuildAgain = "build the plan again";

trt::DataType type_of(Precision precision) {
    return precision == Precision::fp32   ? trt::DataType::kFLOAT
           : precision == Precision::fp16 ? trt::DataType::kHALF
                                          : trt::DataType::kBF16;
}

/// What a plan's contexts are bound to beside images and logits, by the input's name.
using Bindings = std::map<std::string, void*>;

class TensorRtContext : public LoadedPlan::Context {
public:
    TensorRtContext(const std::string& name, const Sidecar& sidecar, TensorRtLog& log, trt::ICudaEngine& engine,
                    const Bindings& bindings)
        : name_(name), sidecar_(sidecar), log_(log), context_(engine.createExecutionContext()) {
        log_.check(context_ != nullptr, name_, "an execution context");
        const auto most = static_cast<std::size_t>(sidecar.batch.most);
        images_ = DeviceMemory(most * sidecar.input.image_size() * sizeof(float), "memory for images");
        logits_ = DeviceMemory(most * static_cast<std::size_t>(sidecar.classes) * sizeof(float), "memory for logits");
        bind(kImages, images_.get());
        bind(kLogits, logits_.get());
        for (const auto& [input, address] : bindings) bind(input.c_str(), address);
    }

    void infer(const float* images, int count, float* logits) override {
        const InputSpec& input = sidecar_.input;
        const auto number = static_cast<std::size_t>(count);
        const trt::Dims64 shape{4, {count, input.channels, input.height, input.width}};
        log_.check(context_->setInputShape(kImages, shape), name_, "the shape of the images");
        stream_.copy(images_.get(), images, number * input.image_size() * sizeof(float));
        log_.check(context_->enqueueV3(stream_.get()), name_, "inference");
        stream_.copy(logits, logits_.get(), number * static_cast<std::size_t>(sidecar_.classes) * sizeof(float));
        stream_.wait();
    }

private:
    void bind(const char* tensor, void* address) {
        log_.check(context_->setTensorAddress(tensor, address), name_, "the address of an input or output");
    }

    const std::string& name_;
    const Sidecar& sidecar_;
    TensorRtLog& log_;
    Stream stream_;
    DeviceMemory images_, logits_;
    std::unique_ptr<trt::IExecutionContext> context_;  // gone before what it is bound to
};

class TensorRtPlan : public LoadedPlan {
public:
    TensorRtPlan(const std::string& name, Bytes plan, const Sidecar& sidecar)
        : name_(name), sidecar_(sidecar), runtime_(trt::createInferRuntime(log_)) {
        log_.check(runtime_ != nullptr, name_, "its runtime");
        engine_.reset(runtime_->deserializeCudaEngine(plan.data, plan.size));
        log_.check(engine_ != nullptr, name_, "reading the plan");
    }

    void become(int task) override { switch_to(task, stream_); }

    std::unique_ptr<Context> make_context() override {
        return std::make_unique<TensorRtContext>(name_, sidecar_, log_, *engine_, bindings_);
    }

protected:
    /// Hold the engine's inputs and outputs against what the plan is to be bound to.
    void check_tensors(const std::map<std::string, trt::DataType>& expected) {
        std::set<std::string> found;
        for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
            const char* name = engine_->getIOTensorName(i);
            const auto known = expected.find(name);
            if (known == expected.end() || known->second != engine_->getTensorDataType(name)) {
                throw Error(name_, "input or output " + in_quotes(name),
                            known == expected.end() ? "no such one" : "another type", "it", kBuildAgain);
            }
            found.insert(name);
        }
        for (const auto& [name, type] : expected) {
            if (!found.count(name))
                throw Error(name_, "input or output " + in_quotes(name), "there", "none", kBuildAgain);
        }
    }

    virtual void switch_to(int task, const Stream& stream) = 0;

    const std::string name_;
    const Sidecar sidecar_;
    TensorRtLog log_;
    Stream stream_;
    std::unique_ptr<trt::IRuntime> runtime_;
    std::unique_ptr<trt::ICudaEngine> engine_;
    Bindings bindings_;
};

std::map<std::string, trt::DataType> images_and_logits() {
    return {{kImages, trt::DataType::kFLOAT}, {kLogits, trt::DataType::kFLOAT}};
}

/// One task for good.
class FixedPlan : public TensorRtPlan {
public:
    FixedPlan(const std::string& name, Bytes plan, const Sidecar& sidecar) : TensorRtPlan(name, plan, sidecar) {
        check_tensors(images_and_logits());
    }

private:
    void switch_to(int, const Stream&) override {}
};

/// The task is an input, int32 [1].
class SelectorPlan : public TensorRtPlan {
public:
    SelectorPlan(const std::string& name, Bytes plan, const Sidecar& sidecar)
        : TensorRtPlan(name, plan, sidecar), task_(sizeof(std::int32_t), "memory for the task") {
        auto expected = images_and_logits();
        expected[kTask] = trt::DataType::kINT32;
        check_tensors(expected);
        bindings_[kTask] = task_.get();
    }

private:
    void switch_to(int task, const Stream& stream) override {
        const std::int32_t index = task;
        stream.copy(task_.get(), &index, sizeof index);
        stream.wait();
    }

    DeviceMemory task_;
};

/// Weights are inputs, bound for good to a buffer that is written anew for each task.
class BindPlan : public TensorRtPlan {
public:
    BindPlan(const std::string& name, Bytes plan, const Sidecar& sidecar, EngineBank bank)
        : TensorRtPlan(name, plan, sidecar), buffer_(std::move(bank), stream_) {
        auto expected = images_and_logits();
        for (std::size_t i = 0; i < buffer_.weights().size(); ++i) {
            expected[buffer_.weights()[i].name] = type_of(sidecar.precision);
            bindings_[buffer_.weights()[i].name] = buffer_.addresses()[i];
        }
        check_tensors(expected);
    }

private:
    void switch_to(int task, const Stream& stream) override {
        buffer_.fill(task, stream);
        stream.wait();
    }

    WeightBuffer buffer_;
};

/// Weights are replaced: the refitter knows the buffer's addresses, and reads them anew for each task.
class RefitPlan : public TensorRtPlan {
public:
    RefitPlan(const std::string& name, Bytes plan, const Sidecar& sidecar, EngineBank bank, unsigned threads)
        : TensorRtPlan(name, plan, sidecar), buffer_(std::move(bank), stream_) {
        check_tensors(images_and_logits());
        if (!engine_->isRefittable())
            throw Error(name_, "plan", "one that can be refitted", "one that cannot", kBuildAgain);
        refitter_.reset(trt::createInferRefitter(*engine_, log_));
        log_.check(refitter_ != nullptr, name_, "a refitter");
        if (threads) log_.check(refitter_->setMaxThreads(static_cast<std::int32_t>(threads)), name_, "its threads");
        check_names();
        for (std::size_t i = 0; i < buffer_.weights().size(); ++i) give(buffer_.weights()[i], buffer_.addresses()[i]);
        if (const std::int32_t missing = refitter_->getMissingWeights(0, nullptr)) {
            throw Error(name_, "weights that the engine still misses", "none", std::to_string(missing), kBuildAgain);
        }
    }

private:
    /// The weights that can be replaced are those that change with the task, no more, no fewer.
    void check_names() {
        const std::int32_t count = refitter_->getAllWeights(0, nullptr);
        std::vector<const char*> names(static_cast<std::size_t>(count));
        refitter_->getAllWeights(count, names.data());
        std::set<std::string> known;
        for (const SwitchedWeight& weight : buffer_.weights()) known.insert(weight.name);
        for (const char* name : names) {
            if (!known.erase(name))
                throw Error(name_, "refittable weight " + in_quotes(name), "in the sidecar", "none", kBuildAgain);
        }
        if (!known.empty()) {
            throw Error(name_, "weight " + in_quotes(*known.begin()), "refittable", "none", kBuildAgain);
        }
    }

    void give(const SwitchedWeight& weight, std::byte* address) {
        const trt::Weights expected = refitter_->getWeightsPrototype(weight.name.c_str());
        const trt::Weights given{type_of(weight.dtype), address, static_cast<std::int64_t>(weight.size)};
        if (expected.type != given.type || expected.count != given.count) {
            throw Error(name_, "weight " + in_quotes(weight.name),
                        std::to_string(expected.count) + " of TensorRT's type " +
                            std::to_string(static_cast<int>(expected.type)),
                        std::to_string(given.count) + " of type " + std::to_string(static_cast<int>(given.type)),
                        kBuildAgain);
        }
        log_.check(refitter_->setNamedWeights(weight.name.c_str(), given, trt::TensorLocation::kDEVICE), name_,
                   "giving a weight");
    }

    void switch_to(int task, const Stream& stream) override {
        buffer_.fill(task, stream);
        log_.check(refitter_->refitCudaEngineAsync(stream.get()), name_, "refitting the engine");
        stream.wait();
    }

    WeightBuffer buffer_;
    std::unique_ptr<trt::IRefitter> refitter_;  // gone before the buffer and the engine
};

}  // namespace

std::unique_ptr<LoadedPlan> load_plan(const std::string& name, Bytes plan, const Sidecar& sidecar, const Deltas& deltas,
                                      unsigned threads) {
    switch (sidecar.mode) {
        case Switch::none: return std::make_unique<FixedPlan>(name, plan, sidecar);
        case Switch::selector: return std::make_unique<SelectorPlan>(name, plan, sidecar);
        case Switch::bind: return std::make_unique<BindPlan>(name, plan, sidecar, EngineBank(deltas, sidecar, threads));
        case Switch::refit: break;
    }
    return std::make_unique<RefitPlan>(name, plan, sidecar, EngineBank(deltas, sidecar, threads), threads);
}

}  // namespace packnet::detail
