#include "plan.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "context.h"
#include "cuda.h"
#include "switcher.h"
#include "tensorrt.h"
#include "tensors.h"
#include "text.h"
#include "weight_buffer.h"

namespace packnet::detail {
namespace {

namespace trt = nvinfer1;

/// A plan with all its tasks in it: of one task for good, or with a selector.
class TensorRtPlan : public LoadedPlan, public Plan {
public:
    TensorRtPlan(const std::string& name, Bytes plan, const Sidecar& sidecar, const PlanOptions& options)
        : name_(name),
          sidecar_(sidecar),
          records_(options.records),
          log_(TensorRtLog::instance()),
          runtime_(trt::createInferRuntime(log_)) {
        log_.check(runtime_ != nullptr, name_, "its runtime");
        engine_.reset(runtime_->deserializeCudaEngine(plan.data, plan.size));
        log_.check(engine_ != nullptr, name_, "reading the plan");
        check_tensors(name_, *engine_, sidecar_);
    }

    int places() const override { return 0; }
    void fill(int, int) override {}
    void finish(int) override {}
    bool spoiled_by_failure() const override { return false; }
    std::unique_ptr<Context> make_context() override { return make_tensorrt_context(*this); }

    const std::string& name() const override { return name_; }
    const Sidecar& sidecar() const override { return sidecar_; }
    trt::ICudaEngine& engine() override { return *engine_; }
    bool records() const override { return records_; }
    std::vector<std::pair<const char*, void*>> bindings(const Batch&) const override { return {}; }
    std::uint64_t version() const override { return 0; }
    void hold_back(int, cudaStream_t) override {}
    void add_use(int, std::shared_ptr<Event>) override {}

protected:
    const std::string name_;
    const Sidecar sidecar_;
    const bool records_;
    TensorRtLog& log_;
    std::unique_ptr<trt::IRuntime> runtime_;
    std::unique_ptr<trt::ICudaEngine> engine_;
};

/// The task is an input, int32 [1]: every index lies ready on the GPU, so that a request has nothing to write.
class SelectorPlan : public TensorRtPlan {
public:
    SelectorPlan(const std::string& name, Bytes plan, const Sidecar& sidecar, const PlanOptions& options)
        : TensorRtPlan(name, plan, sidecar, options),
          indices_((kMaxTasks + 1) * WeightBuffer::kAlignment, "memory for the tasks") {
        const Stream stream;
        for (std::int32_t task = 1; task <= kMaxTasks; ++task) stream.copy(index_of(task), &task, sizeof task);
        stream.wait();
    }

    std::vector<std::pair<const char*, void*>> bindings(const Batch& batch) const override {
        return {{kTask, index_of(batch.task)}};
    }

private:
    void* index_of(int task) const {
        return indices_.as<std::byte>() + static_cast<std::size_t>(task) * WeightBuffer::kAlignment;
    }

    DeviceMemory indices_;
};

/// What `bind` and `refit` have in common: places on the GPU that a task's weights are written into.
class SwitchedPlan : public TensorRtPlan {
public:
    SwitchedPlan(const std::string& name, Bytes plan, const Sidecar& sidecar, const PlanOptions& options,
                 EngineBank bank, int places)
        : TensorRtPlan(name, plan, sidecar, options), switcher_(make_switcher(std::move(bank), options.bank, stream_)) {
        for (int i = 0; i < places; ++i) places_.push_back(std::make_unique<Place>(sidecar_.weights));
    }

    ~SwitchedPlan() override { cudaStreamSynchronize(stream_.get()); }

    int places() const override { return static_cast<int>(places_.size()); }
    void finish(int place) override { at(place).filled.wait(); }

    void hold_back(int place, cudaStream_t stream) override { at(place).filled.hold_back(stream); }

    void add_use(int place, std::shared_ptr<Event> done) override {
        const std::lock_guard<std::mutex> lock(uses_mutex_);
        auto& uses = at(place).uses;
        if (std::find(uses.begin(), uses.end(), done) == uses.end()) uses.push_back(std::move(done));
    }

protected:
    struct Place {
        explicit Place(const std::vector<SwitchedWeight>& weights) : buffer(weights) {}
        WeightBuffer buffer;
        Event filled;
        std::vector<std::shared_ptr<Event>> uses;  // since then, by contexts: what a fill has to wait for
    };

    Place& at(int place) { return *places_[static_cast<std::size_t>(place)]; }
    const Place& at(int place) const { return *places_[static_cast<std::size_t>(place)]; }

    std::vector<std::shared_ptr<Event>> take_uses(int place) {
        const std::lock_guard<std::mutex> lock(uses_mutex_);
        return std::exchange(at(place).uses, {});
    }

    /// Enqueue a task's weights; fill_mutex_ is held.
    void write(Place& place, int task) {
        place.buffer.task = 0;
        switcher_->enqueue(place.buffer, task, stream_);
        place.filled.record(stream_.get());
        place.buffer.task = task;
    }

    Stream stream_;  // of fills
    std::mutex fill_mutex_;

private:
    std::mutex uses_mutex_;
    std::unique_ptr<Switcher> switcher_;
    std::vector<std::unique_ptr<Place>> places_;
};

/// Weights are inputs: each place has a buffer of its own, and a request reads its place's.
class BindPlan : public SwitchedPlan {
public:
    BindPlan(const std::string& name, Bytes plan, const Sidecar& sidecar, const PlanOptions& options, EngineBank bank)
        : SwitchedPlan(name, plan, sidecar, options, std::move(bank), options.resident) {}

    void fill(int place, int task) override {
        const std::lock_guard<std::mutex> lock(fill_mutex_);
        for (const std::shared_ptr<Event>& use : take_uses(place)) use->hold_back(stream_.get());
        write(at(place), task);
    }

    std::vector<std::pair<const char*, void*>> bindings(const Batch& batch) const override {
        std::vector<std::pair<const char*, void*>> all;
        const auto& addresses = at(batch.place).buffer.addresses();
        for (std::size_t i = 0; i < addresses.size(); ++i)
            all.emplace_back(sidecar_.weights[i].name.c_str(), addresses[i]);
        return all;
    }
};

/// Weights are replaced: the refitter knows the buffer's addresses, and reads them anew for each task.
class RefitPlan : public SwitchedPlan {
public:
    RefitPlan(const std::string& name, Bytes plan, const Sidecar& sidecar, const PlanOptions& options, EngineBank bank)
        : SwitchedPlan(name, plan, sidecar, options, std::move(bank), 1) {
        if (!engine_->isRefittable())
            throw Error(name_, "plan", "one that can be refitted", "one that cannot", kBuildAgain);
        refitter_.reset(trt::createInferRefitter(*engine_, log_));
        log_.check(refitter_ != nullptr, name_, "a refitter");
        if (options.threads)
            log_.check(refitter_->setMaxThreads(static_cast<std::int32_t>(options.threads)), name_, "its threads");
        check_names();
        for (std::size_t i = 0; i < sidecar_.weights.size(); ++i)
            give(sidecar_.weights[i], at(0).buffer.addresses()[i]);
        if (const std::int32_t missing = refitter_->getMissingWeights(0, nullptr)) {
            throw Error(name_, "weights that the engine still misses", "none", std::to_string(missing), kBuildAgain);
        }
    }

    bool spoiled_by_failure() const override { return true; }
    std::uint64_t version() const override { return version_; }

    void fill(int place, int task) override {
        const std::lock_guard<std::mutex> lock(fill_mutex_);
        for (const std::shared_ptr<Event>& use : take_uses(place)) use->wait();
        write(at(place), task);
        log_.check(refitter_->refitCudaEngineAsync(stream_.get()), name_, "refitting the engine");
        stream_.wait();
        ++version_;
    }

private:
    /// The weights that can be replaced are those that change with the task, no more, no fewer.
    void check_names() {
        const std::int32_t count = refitter_->getAllWeights(0, nullptr);
        std::vector<const char*> names(static_cast<std::size_t>(count));
        refitter_->getAllWeights(count, names.data());
        std::set<std::string> known;
        for (const SwitchedWeight& weight : sidecar_.weights) known.insert(weight.name);
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

    std::unique_ptr<trt::IRefitter> refitter_;  // gone before the buffer and the engine
    std::uint64_t version_ = 0;
};

}  // namespace

std::unique_ptr<LoadedPlan> load_plan(const std::string& name, Bytes plan, const Sidecar& sidecar, const Deltas& deltas,
                                      const PlanOptions& options) {
    switch (sidecar.mode) {
        case Switch::none: return std::make_unique<TensorRtPlan>(name, plan, sidecar, options);
        case Switch::selector: return std::make_unique<SelectorPlan>(name, plan, sidecar, options);
        case Switch::bind:
        case Switch::refit: break;
    }
    EngineBank bank(deltas, sidecar, options.threads);
    if (sidecar.mode == Switch::bind) return std::make_unique<BindPlan>(name, plan, sidecar, options, std::move(bank));
    return std::make_unique<RefitPlan>(name, plan, sidecar, options, std::move(bank));
}

}  // namespace packnet::detail
