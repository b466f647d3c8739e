#include "groups.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

#include "bits.h"

namespace packnet::detail {
namespace {

std::size_t room_of_all(const std::vector<SwitchedWeight>& weights, const Cluster& numbers) {
    std::size_t sum = 0;
    for (std::size_t number : numbers) sum += room_of(weights[number]);
    return sum;
}

/// The gaps between weights have no owner, and begin with a word of the mask.
std::size_t count_owned(const OrderedBank& bank, std::size_t task, std::size_t start, std::size_t size) {
    const std::uint32_t* const mask = &bank.masks[task * bank.tiles * kWords];
    std::size_t count = 0;
    for (std::size_t word = start / 32; word < (start + size + 31) / 32; ++word)
        count += static_cast<std::size_t>(count_ones(mask[word]));
    return count;
}

Group runs_of(const std::vector<SwitchedWeight>& weights, const Layout& layout, Cluster numbers) {
    const auto first = [&](std::size_t a, std::size_t b) { return layout.starts[a] < layout.starts[b]; };
    std::sort(numbers.begin(), numbers.end(), first);
    Group runs;
    std::size_t at = 0;
    for (std::size_t number : numbers) {
        const SwitchedWeight& weight = weights[number];
        const std::size_t start = layout.starts[number];
        const bool goes_on =
            !runs.empty() && runs.back().banked == weight.banked &&
            layout.starts[runs.back().weights.back()] + room_of(weights[runs.back().weights.back()]) == start;
        if (!goes_on) runs.push_back({{}, {start, start}, at, weight.banked});
        runs.back().weights.push_back(number);
        runs.back().span.last = start + weight.size;
        at += room_of(weight);
    }
    return runs;
}

}  // namespace

Kinds kinds_of(const EngineWeights& weights) {
    const Layout& layout = weights.layout;
    const auto tasks = static_cast<std::size_t>(weights.tasks());
    Kinds kinds(weights.weights.size(), std::vector<std::size_t>(tasks));
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        const SwitchedWeight& weight = weights.weights[i];
        const auto tensor = [&](std::size_t task) {
            return &weights.own[task][(layout.starts[i] - layout.banked) * layout.item];
        };
        for (std::size_t task = 0; task < tasks; ++task) {
            if (weight.banked) {
                kinds[i][task] = count_owned(weights.bank, task, layout.starts[i], weight.size);
                continue;
            }
            const auto same = [&](std::size_t other) {
                return std::memcmp(tensor(other), tensor(task), weight.bytes()) == 0;
            };
            while (!same(kinds[i][task])) ++kinds[i][task];  // the first task that has it
        }
    }
    return kinds;
}

bool differs(const std::vector<std::size_t>& kinds, bool banked, int source, int target) {
    const Between owners = between(source, target);
    if (!banked) return kinds[static_cast<std::size_t>(source) - 1] != kinds[static_cast<std::size_t>(target) - 1];
    return std::any_of(kinds.begin() + owners.first, kinds.begin() + owners.last, [](std::size_t own) { return own; });
}

std::vector<Cluster> clusters_of(const std::vector<std::vector<std::size_t>>& companions) {
    std::vector<std::size_t> home(companions.size());  // by weight: the lowest of its cluster
    std::iota(home.begin(), home.end(), 0);
    for (std::size_t i = 0; i < companions.size(); ++i) {
        for (std::size_t other : companions[i]) {
            const std::size_t from = std::max(home[i], home[other]), to = std::min(home[i], home[other]);
            std::replace(home.begin(), home.end(), from, to);
        }
    }
    std::map<std::size_t, Cluster> clusters;
    for (std::size_t i = 0; i < home.size(); ++i) clusters[home[i]].push_back(i);
    std::vector<Cluster> all;
    for (auto& [lowest, cluster] : clusters) all.push_back(std::move(cluster));
    return all;
}

std::vector<Group> groups_of(const std::vector<SwitchedWeight>& weights, const Layout& layout,
                             const std::vector<Cluster>& clusters, std::size_t capacity) {
    std::vector<Cluster> fillings;
    std::size_t used = 0;
    for (const Cluster& cluster : clusters) {
        const std::size_t size = room_of_all(weights, cluster);
        if (fillings.empty() || used + size > capacity) {
            fillings.emplace_back();
            used = 0;
        }
        fillings.back().insert(fillings.back().end(), cluster.begin(), cluster.end());
        used += size;
    }
    std::vector<Group> groups;
    for (const Cluster& filling : fillings) groups.push_back(runs_of(weights, layout, filling));
    return groups;
}

std::size_t largest_group(const std::vector<SwitchedWeight>& weights, const std::vector<Cluster>& clusters) {
    std::size_t largest = 0;
    for (const Cluster& cluster : clusters) largest = std::max(largest, room_of_all(weights, cluster));
    return largest;
}

}  // namespace packnet::detail
