#include "refit_plan.h"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "tensors.h"
#include "text.h"

namespace packnet::detail {

namespace trt = nvinfer1;

namespace {

constexpr unsigned kMostThreads = 8;  // that TensorRT takes by itself to give weights to an engine

std::int32_t threads_of(const PlanOptions& options) {
    const unsigned here = std::clamp(std::thread::hardware_concurrency(), 1u, kMostThreads);
    return static_cast<std::int32_t>(options.threads ? options.threads : here);
}

}  // namespace

RefitPlan::RefitPlan(const PlanFile& file, const PlanOptions& options, EngineWeights weights)
    : SwitchedPlan(file, options, 1), kinds_(kinds_of(weights)) {
    if (!engine_->isRefittable())
        throw Error(name_, "plan", "one that can be refitted", "one that cannot", kBuildAgain);
    refitter_.reset(trt::createInferRefitter(*engine_, log_));
    log_.check(refitter_ != nullptr, name_, "a refitter");
    log_.check(refitter_->setMaxThreads(threads_of(options)), name_, "its threads");
    check_names();

    const Placement placement = place(sizes_of(weights), Switch::refit, options.bank_on_device);
    bank_ = place_bank(std::move(weights), placement, stream_);
    const std::size_t item = bank_->layout().item;
    scratch_ = DeviceMemory(placement.scratch, "memory to refit from");
    std::vector<std::vector<std::size_t>> companions;
    for (std::size_t i = 0; i < sidecar_.weights.size(); ++i) companions.push_back(companions_of(i));
    clusters_ = clusters_of(companions);
    capacity_ = placement.scratch / item;
    const std::size_t needed = largest_group(sidecar_.weights, clusters_);
    if (needed > capacity_) large_ = PinnedMemory(needed * item, "page-locked memory to refit from");
}

void RefitPlan::fill(int place, int task) {
    const std::lock_guard<std::mutex> lock(fill_mutex_);
    for (const std::shared_ptr<Event>& use : take_uses(place)) use->wait();
    const bool is_first = task_ == 0;
    for (const Group& group : groups_of(sidecar_.weights, bank_->layout(), changed_by(task), capacity_)) {
        task_ = 0;
        refit_group(group, task);
        ++version_;
    }
    stream_.wait();
    if (is_first && !sidecar_.sparse_weights)
        refitter_->setWeightsValidation(false);  // it has seen them all once; a sparse kernel could not stand others
    task_ = task;
}

/// The weights that can be replaced are those that change with the task, no more, no fewer.
void RefitPlan::check_names() const {
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

void RefitPlan::check_prototype(const SwitchedWeight& weight) const {
    const auto shown = [](std::int64_t count, trt::DataType type) {
        return std::to_string(count) + " of TensorRT's type " + std::to_string(static_cast<int>(type));
    };
    const trt::Weights expected = refitter_->getWeightsPrototype(weight.name.c_str());
    const auto count = static_cast<std::int64_t>(weight.size);
    if (expected.type == type_of(weight.dtype) && expected.count == count) return;
    throw Error(name_, "weight " + in_quotes(weight.name), shown(expected.count, expected.type),
                shown(count, type_of(weight.dtype)), kBuildAgain);
}

/// What TensorRT misses when it is given this weight alone.
std::vector<std::size_t> RefitPlan::companions_of(std::size_t number) {
    check_prototype(sidecar_.weights[number]);
    set(number, scratch_.as<std::byte>(), trt::TensorLocation::kDEVICE);
    std::vector<std::size_t> companions;
    for (const std::string& name : missing()) {
        const auto of_it = [&](const SwitchedWeight& weight) { return weight.name == name; };
        const auto found = std::find_if(sidecar_.weights.begin(), sidecar_.weights.end(), of_it);
        if (found == sidecar_.weights.end())
            throw Error(name_, "weight " + in_quotes(name), "in the sidecar", "none", kBuildAgain);
        companions.push_back(static_cast<std::size_t>(found - sidecar_.weights.begin()));
    }
    unset(number);
    return companions;
}

std::vector<std::string> RefitPlan::missing() const {
    const std::int32_t count = refitter_->getMissingWeights(0, nullptr);
    std::vector<const char*> names(static_cast<std::size_t>(count));
    refitter_->getMissingWeights(count, names.data());
    return {names.begin(), names.end()};
}

std::vector<Cluster> RefitPlan::changed_by(int task) const {
    if (task_ == 0) return clusters_;
    const auto is_other = [&](std::size_t i) { return differs(kinds_[i], sidecar_.weights[i].banked, task_, task); };
    std::vector<Cluster> changed;
    for (const Cluster& cluster : clusters_) {
        if (std::any_of(cluster.begin(), cluster.end(), is_other)) changed.push_back(cluster);
    }
    return changed;
}

void RefitPlan::refit_group(const Group& group, int task) {
    if (group.back().end() <= capacity_) {
        fill_buffer(group, task, scratch_.as<std::byte>());
        give(group, scratch_.as<std::byte>(), trt::TensorLocation::kDEVICE);
        return;
    }
    fill_buffer(group, task, address_on_gpu(large_));
    stream_.wait();  // TensorRT may read host memory as soon as it is called
    give(group, large_.as<std::byte>(), trt::TensorLocation::kHOST);
    stream_.wait();  // or late, and the next group comes to the same place
}

void RefitPlan::fill_buffer(const Group& group, int task, std::byte* buffer) {
    const std::size_t item = bank_->layout().item;
    for (const Run& run : group) {
        std::byte* const out = buffer + run.at * item;
        if (run.banked) {
            stream_.clear(out, run.span.size() * item);
            bank_->enqueue_banked(out, run.span, 0, task, stream_);
        } else {
            bank_->enqueue_own(out, run.span, task, stream_);
        }
    }
}

void RefitPlan::give(const Group& group, const std::byte* buffer, trt::TensorLocation location) {
    const Layout& layout = bank_->layout();
    for (const Run& run : group) {
        for (std::size_t i : run.weights)
            set(i, buffer + (run.at + layout.starts[i] - run.span.first) * layout.item, location);
    }
    if (const std::vector<std::string> names = missing(); !names.empty())
        throw Error(name_, "weights that the engine still misses", "none", in_quotes(names.front()), kBuildAgain);
    log_.check(refitter_->refitCudaEngineAsync(stream_.get()), name_, "refitting the engine");
    for (const Run& run : group) {
        for (std::size_t i : run.weights) unset(i);
    }
}

void RefitPlan::set(std::size_t number, const std::byte* address, trt::TensorLocation location) {
    const SwitchedWeight& weight = sidecar_.weights[number];
    const trt::Weights given{type_of(weight.dtype), address, static_cast<std::int64_t>(weight.size)};
    log_.check(refitter_->setNamedWeights(weight.name.c_str(), given, location), name_, "giving a weight");
}

void RefitPlan::unset(std::size_t number) {
    log_.check(refitter_->unsetNamedWeights(sidecar_.weights[number].name.c_str()), name_, "taking a weight back");
}

}  // namespace packnet::detail
