/// @file
/// What a refit is given, and in which order: only weights that differ, through a buffer smaller than a model. Pure;
/// trt/groups.py in Python.
///
/// TensorRT may have merged weights (a convolution's with the scale behind it): such companions are refitted together
/// or not at all, so a refit gives whole clusters. Clusters are filled into the scratch buffer one after the other, as
/// many as fit; each filling is a group, and a refit of its own.
#pragma once

#include <cstddef>
#include <vector>

#include "engine_weights.h"

namespace packnet::detail {

/// Weights that lie side by side in the layout, and so do in the scratch buffer: all banked, or none.
struct Run {
    std::vector<std::size_t> weights;  // numbers
    Span span;                         // of the layout
    std::size_t at;                    // where the first lies in the scratch buffer, in weights
    bool banked;

    std::size_t end() const noexcept { return at + span.size(); }  // behind it in the scratch buffer
};

using Group = std::vector<Run>;
using Cluster = std::vector<std::size_t>;  // numbers of weights, rising

/// What tells whether a weight differs between two tasks, by weight and task. Of a banked weight, how many of it are
/// the task's own; of another, a number that tasks with the same tensor have in common.
using Kinds = std::vector<std::vector<std::size_t>>;

Kinds kinds_of(const EngineWeights& weights);

/// Whether a weight of these kinds is another for task `target` than for task `source`.
bool differs(const std::vector<std::size_t>& kinds, bool banked, int source, int target);

/// The smallest sets of weights that can be refitted by themselves.
/// @param companions  by weight, those that TensorRT misses when it is given that weight alone.
std::vector<Cluster> clusters_of(const std::vector<std::vector<std::size_t>>& companions);

/// Fill clusters into a scratch buffer of `capacity` weights; one that is larger has a group of its own.
std::vector<Group> groups_of(const std::vector<SwitchedWeight>& weights, const Layout& layout,
                             const std::vector<Cluster>& clusters, std::size_t capacity);

/// How many weights a buffer must hold that takes every group.
std::size_t largest_group(const std::vector<SwitchedWeight>& weights, const std::vector<Cluster>& clusters);

}  // namespace packnet::detail
