// Weights on their way to the GPU, as far as that is pure: layout, ordered bank, groups of a refit, placement.

#include <random>

#include "check.h"
#include "groups.h"
#include "placement.h"

using namespace packnet::detail;
using packnet::Precision;
using packnet::Switch;
using packnet::SwitchedWeight;

namespace {

SwitchedWeight weight(const char* name, std::size_t size, bool banked) {
    return {name, {static_cast<std::int64_t>(size)}, Precision::fp16, banked, size};
}

const std::vector<SwitchedWeight> kWeights = {weight("head", 3, false), weight("a", 15, true), weight("b", 129, true),
                                              weight("bias", 1, false)};

/// Two tasks, one of which owns every other weight of a, and the other the last of b.
EngineWeights two_tasks() {
    EngineWeights made{kWeights, layout_of(kWeights, Precision::fp16), {}, {}, 0};
    made.bank.tasks = 2;
    made.bank.tiles = 1;
    made.bank.masks.resize(2 * kWords);
    made.bank.masks[0] = 0x5555;
    made.bank.masks[kWords + 256 / 32] = 1;  // b begins at 128
    made.bank.before = {0, 8, 8, 9};
    for (int i = 1; i <= 9; ++i) made.bank.values.insert(made.bank.values.end(), {std::byte(i), std::byte(0)});
    made.bank.values.resize(32);
    made.own = {std::vector<std::byte>(512, std::byte(1)), std::vector<std::byte>(512, std::byte(1))};
    made.own[1][0] = std::byte(2);  // of the head
    return made;
}

}  // namespace

TEST(banked_weights_lie_first_and_all_are_aligned) {
    const Layout layout = layout_of(kWeights, Precision::fp16);
    CHECK((layout.starts == std::vector<std::size_t>{384, 0, 128, 512}));
    CHECK_EQUAL(layout.banked, 384u);
    CHECK_EQUAL(layout.count, 640u);
    CHECK_EQUAL(layout.bytes(), 1280u);
    CHECK_EQUAL(room_of(kWeights[2]), 256u);
}

TEST(up_writes_values_and_down_zeros) {
    const EngineWeights made = two_tasks();
    std::vector<std::byte> out(made.layout.banked * 2, std::byte(7));
    switch_in_place(out.data(), made.bank, 2, 0, 2);
    for (std::size_t i = 0; i < 16; ++i) CHECK(out[2 * i] == (i % 2 ? std::byte(7) : std::byte(i / 2 + 1)));
    CHECK(out[512] == std::byte(9) && out[514] == std::byte(7));
    switch_in_place(out.data(), made.bank, 2, 2, 1);
    CHECK(out[512] == std::byte(0) && out[2] == std::byte(7) && out[0] == std::byte(1));
    const std::vector<std::byte> before = out;
    switch_in_place(out.data(), made.bank, 2, 1, 1);
    CHECK(out == before);
}

TEST(what_differs_between_tasks) {
    const Kinds kinds = kinds_of(two_tasks());
    CHECK((kinds == Kinds{{0, 1}, {8, 0}, {0, 1}, {0, 0}}));
    const auto other = [&](std::size_t i) { return differs(kinds[i], kWeights[i].banked, 1, 2); };
    CHECK(other(0) && !other(1) && other(2) && !other(3));
    CHECK(!differs(kinds[2], true, 2, 2) && differs(kinds[2], true, 2, 1) && !differs(kinds[0], false, 2, 2));
}

TEST(companions_of_companions_are_one_cluster) {
    CHECK((clusters_of({{}, {3}, {}, {4}, {}}) == std::vector<Cluster>{{0}, {1, 3, 4}, {2}}));
    CHECK((clusters_of({{3}, {2}, {3}, {}}) == std::vector<Cluster>{{0, 1, 2, 3}}));
}

TEST(groups_fill_the_buffer_and_no_more) {
    const Layout layout = layout_of(kWeights, Precision::fp16);
    CHECK_EQUAL(largest_group(kWeights, {{0, 1}, {2}}), 256u);
    const std::vector<Group> groups = groups_of(kWeights, layout, {{0, 1}, {2}, {3}}, 256);
    CHECK_EQUAL(groups.size(), 3u);
    const Group& first = groups[0];
    CHECK_EQUAL(first.size(), 2u);  // a, and behind it the head, which lies elsewhere
    CHECK(first[0].banked && first[0].weights == Cluster{1} && first[0].at == 0 && first[0].span.last == 15);
    CHECK(!first[1].banked && first[1].weights == Cluster{0} && first[1].at == 128 && first[1].span.first == 384);
    const std::vector<Group> all = groups_of(kWeights, layout, {{0, 1}, {2}, {3}}, 640);
    CHECK_EQUAL(all.size(), 1u);
    CHECK((all[0].size() == 2 && all[0][0].weights == Cluster{1, 2} && all[0][1].weights == Cluster{0, 3}));
    CHECK_EQUAL(all[0][0].span.last, 257u);
}

TEST(with_the_bank_on_the_host_it_is_at_most_a_fifth_more_than_a_model) {
    std::mt19937 random(1);
    for (int i = 0; i < 2000; ++i) {
        Sizes sizes{};
        sizes.fixed = random() % 1000;
        sizes.changing = 9000;
        sizes.largest = random() % 9000;
        sizes.positions = random() % 2000;
        sizes.counts = random() % 10;
        sizes.own = random() % 2000;
        for (Switch mode : {Switch::bind, Switch::refit}) {
            const Placement placement = place(sizes, mode, false);
            const std::size_t more = placement.scratch + sizes.counts + (placement.own ? sizes.own : 0) +
                                     (placement.positions ? sizes.positions : 0);
            CHECK(more * 5 <= sizes.model());
            CHECK(!placement.values);
        }
        CHECK(place(sizes, Switch::refit, true).scratch >= sizes.largest);
        CHECK(place(sizes, Switch::bind, true).values && place(sizes, Switch::bind, true).own);
    }
}
