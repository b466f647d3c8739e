// The refitter of TensorRT's stand-in: a subset of weights is taken where none is missing that was merged with one of
// them.

#include <cstring>
#include <set>
#include <utility>

#include "stub.h"
#include "toy_core.h"

namespace {

using namespace nvinfer1;

/// A weight, and whose memory it lies in.
struct Given {
    const void* values;
    TensorLocation location;
};

class Refitter : public IRefitter {
public:
    explicit Refitter(std::shared_ptr<ToyCore> core) : core_(std::move(core)) { stub_alive(1); }
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
            return {toy_type_of(weight.type), nullptr, static_cast<std::int64_t>(weight.size())};
        }
        return {DataType::kFLOAT, nullptr, -1};
    }
    bool setNamedWeights(const char* name, Weights weights, TensorLocation location) noexcept override {
        if (weights.count != getWeightsPrototype(name).count)
            return toy_refuse("IRefitter::setNamedWeights: other weights are expected");
        given_[name] = {weights.values, location};
        return true;
    }
    bool unsetNamedWeights(const char* name) noexcept override { return given_.erase(name) == 1; }
    void setWeightsValidation(bool validates) noexcept override { stub_count(&StubCounts::unvalidated, !validates); }
    bool setMaxThreads(std::int32_t) noexcept override { return true; }
    bool refitCudaEngineAsync(cudaStream_t stream) noexcept override {
        if (core_->pending) stub_abort("a refit amid requests");
        if (getMissingWeights(0, nullptr)) return toy_refuse("IRefitter::refitCudaEngineAsync: weights are missing");
        const bool fails = stub_fails("refit");
        stub_count(&StubCounts::refits);
        stub_count(&StubCounts::refitted, given_.size());
        for (const auto& [name, given] : given_)
            stub_count(&StubCounts::refitted_from_host, given.location == TensorLocation::kHOST);
        ++core_->version;
        std::map<std::string, std::vector<std::byte>> read;  // of the host's memory, right now
        for (const auto& [name, given] : given_) {
            const auto* const values = static_cast<const std::byte*>(given.values);
            if (given.location == TensorLocation::kHOST)
                read[name].assign(values, values + core_->refitted.at(name).size());
        }
        const auto work = [core = core_, given = given_, read = std::move(read), fails] {
            bool is_first = true;
            for (const auto& [name, from] : given) {
                if (fails && !is_first) break;  // half way
                is_first = false;
                std::vector<std::byte>& values = core->refitted[name];
                const auto here = read.find(name);
                const std::byte* const source =
                    here == read.end() ? stub_resolve(from.values, values.size()) : here->second.data();
                std::memcpy(values.data(), source, values.size());
            }
        };
        const bool enqueued = stub_enqueue(stream, work) == cudaSuccess;
        return (enqueued && !fails) || toy_refuse("IRefitter::refitCudaEngineAsync: it failed half way");
    }

private:
    const std::shared_ptr<ToyCore> core_;
    std::map<std::string, Given> given_;
};

}  // namespace

nvinfer1::IRefitter* make_toy_refitter(std::shared_ptr<ToyCore> core) { return new Refitter(std::move(core)); }
