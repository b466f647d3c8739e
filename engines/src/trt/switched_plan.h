/// @file
/// What `bind` and `refit` have in common: places that tasks are written into, one after the other, on a stream of
/// their own; and the order of that and of requests, which lie on other streams.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "tensorrt_plan.h"

namespace packnet::detail {

class SwitchedPlan : public TensorRtPlan {
public:
    SwitchedPlan(const PlanFile& file, const PlanOptions& options, int places);

    int places() const override { return static_cast<int>(places_.size()); }
    void finish(int place) override { at(place).filled.wait(); }
    void hold_back(int place, cudaStream_t stream) override { at(place).filled.hold_back(stream); }
    void add_use(int place, std::shared_ptr<Event> done) override;

protected:
    /// The requests that a fill has to come after, and whoever comes next does not.
    std::vector<std::shared_ptr<Event>> take_uses(int place);

    /// What was enqueued on stream_ for a place so far is what requests there have to come after.
    void record_fill(int place) { at(place).filled.record(stream_.get()); }

    /// For destructors: what fills read and write must not go before they are done.
    void end_fills() const noexcept { cudaStreamSynchronize(stream_.get()); }

    const Stream stream_;    // of fills
    std::mutex fill_mutex_;  // held by whoever fills

private:
    struct Place {
        Event filled;
        std::vector<std::shared_ptr<Event>> uses;  // since then, by contexts
    };

    Place& at(int place) { return *places_[static_cast<std::size_t>(place)]; }

    std::mutex uses_mutex_;
    std::vector<std::unique_ptr<Place>> places_;
};

}  // namespace packnet::detail
