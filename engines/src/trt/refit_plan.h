/// @file
/// A plan whose weights are replaced: TensorRT is given those that differ, group by group, out of a small buffer.
///
/// A subset is legal as long as TensorRT misses nothing; what it misses when it is given one weight alone, it has
/// merged with that one, and the two go together (groups.h). The first task is given everything. A weight that is
/// larger than the buffer (VGG-16's first linear layer is three quarters of the network) is written into page-locked
/// host memory by the same kernels, and TensorRT takes it from there: over the bus twice, but no second copy on the
/// GPU.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "groups.h"
#include "placed_bank.h"
#include "switched_plan.h"

namespace packnet::detail {

class RefitPlan : public SwitchedPlan {
public:
    RefitPlan(const PlanFile& file, const PlanOptions& options, EngineWeights weights);

    ~RefitPlan() override { end_fills(); }

    void fill(int place, int task) override;
    bool spoiled_by_failure() const override { return true; }
    std::uint64_t version() const override { return version_; }

private:
    void check_names() const;
    void check_prototype(const SwitchedWeight& weight) const;
    std::vector<std::size_t> companions_of(std::size_t number);
    std::vector<std::string> missing() const;
    void refit_group(const Group& group, int task);
    void fill_buffer(const Group& group, int task, std::byte* buffer);
    void give(const Group& group, const std::byte* buffer, nvinfer1::TensorLocation location);
    void set(std::size_t number, const std::byte* address, nvinfer1::TensorLocation location);
    void unset(std::size_t number);
    std::vector<Cluster> changed_by(int task) const;

    const Kinds kinds_;
    std::unique_ptr<PlacedBank> bank_;
    std::size_t capacity_;  // of the scratch buffer, in weights
    DeviceMemory scratch_;
    PinnedMemory large_;                             // for groups that it cannot hold
    std::unique_ptr<nvinfer1::IRefitter> refitter_;  // gone before the buffer and the engine
    std::vector<Cluster> clusters_;
    int task_ = 0;  // that the engine is; 0 where nobody knows
    std::uint64_t version_ = 0;
};

}  // namespace packnet::detail
