// Execution contexts of TensorRT's stand-in: the toy plan's network, run when the stream comes to it.

#include <algorithm>
#include <cstring>
#include <utility>

#include "stub.h"
#include "toy_core.h"

namespace {

using namespace nvinfer1;

class Context : public IExecutionContext {
public:
    explicit Context(std::shared_ptr<ToyCore> core) : core_(std::move(core)) {
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
            return toy_refuse("IExecutionContext::setInputShape: dimensions are outside of the optimisation profile");
        }
        count_ = shape.d[0];
        return true;
    }

    Dims getTensorShape(const char* name) const noexcept override {
        if (std::string(name) == "logits") return toy_dims_of({count_, core_->plan.logits});
        return toy_dims_of({-1});
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
        if (stub_fails("enqueueV3")) return toy_refuse("IExecutionContext::enqueueV3: it failed");
        if (count_ == 0) return toy_refuse("IExecutionContext::enqueueV3: no shape was set");
        const bool captured = stub_is_capturing(stream);
        if (captured && stub_fails("capture")) {
            stub_spoil_capture(stream);
            return toy_refuse("IExecutionContext::enqueueV3: the work cannot be captured");
        }
        for (const char* name : {"images", "logits"}) {
            if (!addresses_[name]) return toy_refuse("IExecutionContext::enqueueV3: an address was not set");
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
        return stub_enqueue(stream, work) == cudaSuccess || toy_refuse("IExecutionContext::enqueueV3: a CUDA error");
    }

private:
    static void infer(const ToyCore& core, const std::map<std::string, void*>& addresses, std::size_t count) {
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

    const std::shared_ptr<ToyCore> core_;
    const std::shared_ptr<std::atomic<bool>> running_ = std::make_shared<std::atomic<bool>>(false);
    std::map<std::string, void*> addresses_;
    std::int64_t count_ = 0;
};

}  // namespace

nvinfer1::IExecutionContext* make_toy_context(std::shared_ptr<ToyCore> core) { return new Context(std::move(core)); }
