// The committed golden pack: every figure of expected.json is what reading it gives.

#include <cmath>

#include "check.h"
#include "golden.h"
#include "json_text.h"
#include "packnet/bank.h"
#include "sha256.h"

namespace {

using packnet::Bank;
using packnet::Deltas;

/// A figure of expected.json.
packnet::detail::Json expected(const std::string& path) {
    static const std::string figures = read_file(golden_path().parent_path() / "expected.json");
    return value_at(figures, path);
}

packnet::Pack golden() { return packnet::open_pack(golden_path()); }

std::string hash_of(const std::vector<float>& values) {
    return packnet::detail::sha256(values.data(), values.size() * 4);
}

/// The weights that `source` gives, in memory that was not zero before.
template <typename Source>
std::vector<std::vector<float>> materialised(const Source& source, int task, unsigned threads) {
    std::vector<std::vector<float>> memory;
    std::vector<float*> out;
    for (const packnet::Parameter& parameter : source.parameters()) memory.emplace_back(parameter.size, 7.0f);
    for (std::vector<float>& values : memory) out.push_back(values.data());
    source.materialise(task, out, threads);
    return memory;
}

template <typename Source>
void check_materialises(const Source& source) {
    const packnet::Pack pack = golden();
    for (const packnet::TaskEntry& task : pack.tasks) {
        for (unsigned threads : {0u, 1u, 3u}) {
            const auto memory = materialised(source, task.index, threads);
            for (std::size_t i = 0; i < memory.size(); ++i) {
                CHECK_EQUAL(hash_of(memory[i]),
                            expected("tasks/" + task.name + "/materialised/" + pack.parameters[i].name).text());
            }
        }
    }
}

}  // namespace

TEST(the_pack_lists_its_tasks) {
    const packnet::Pack pack = golden();
    CHECK_EQUAL(pack.tasks.size(), std::size_t{3});
    CHECK_EQUAL(pack.task("birds").index, 2);
    CHECK_EQUAL(pack.task("flowers").classes, 5);
    CHECK_EQUAL(pack.task("flowers").file(), "deltas/0003-flowers.safetensors");
    CHECK_EQUAL(pack.parameters[0].size, std::size_t{135});
    CHECK(pack.parameters[0].pattern.empty());
    check_refused("unknown task", "one of shapes, birds, flowers, got 'fish'", [&] { pack.task("fish"); });
}

TEST(the_probe_batch_is_the_one_python_makes) {
    CHECK_EQUAL(hash_of(packnet::probe_batch(golden().input)), expected("probe_sha256").text());
}

TEST(the_graph_is_read) {
    CHECK_EQUAL(packnet::read_graph(golden()).size(), read_file(golden_path() / "graph.onnx").size());
}

TEST(deltas_materialise_every_task) { check_materialises(Deltas(golden())); }

TEST(a_bank_materialises_every_task_without_its_deltas) {
    const auto made = [] { return Bank(Deltas(golden())); };
    check_materialises(made());
}

TEST(owners_are_those_of_the_trainer) {
    for (const packnet::TaskEntry& task : golden().tasks) {
        const Bank bank(Deltas(golden(), task.index));
        CHECK_EQUAL(bank.tasks(), task.index);
        for (std::size_t i = 0; i < bank.parameters().size(); ++i) {
            const std::string hash = packnet::detail::sha256(bank.owners(i), bank.parameters()[i].size);
            CHECK_EQUAL(hash, expected("tasks/" + task.name + "/owners/" + bank.parameters()[i].name).text());
        }
    }
}

TEST(what_was_frozen_is_what_the_bank_holds) {
    const Deltas deltas(golden());
    const Bank bank(deltas);
    for (const packnet::TaskEntry& task : golden().tasks) {
        CHECK_EQUAL(bank.sha256(task.index - 1), expected("tasks/" + task.name + "/frozen_sha256").text());
        CHECK_EQUAL(deltas.content(task.index).frozen_sha256, bank.sha256(task.index - 1));
    }
}

TEST(a_task_brings_its_classes_head_and_probe_logits) {
    const Deltas deltas(golden());
    const packnet::TaskContent birds = deltas.content(2), flowers = deltas.content(3);
    CHECK_EQUAL(birds.classes[1], "Mönchsgrasmücke");
    CHECK_EQUAL(birds.report, "{\"note\": \"golden\"}");
    CHECK((birds.tensors.at("head.weight").shape == std::vector<std::int64_t>{2, 7, 1, 1}));
    CHECK_EQUAL(flowers.tensors.at("head.bias").values.size(), std::size_t{5});
    for (std::size_t i = 0; i < 20; ++i) {
        const auto logit = expected("tasks/flowers/logits/" + std::to_string(i / 5) + '/' + std::to_string(i % 5));
        CHECK(std::abs(flowers.probe_logits.values[i] - static_cast<float>(logit.number())) < 1e-6f);
    }
    // flowers has a bias of its own, and shares the others
    CHECK(flowers.tensors.at("fire.expand.bias").values != birds.tensors.at("fire.expand.bias").values);
    CHECK(flowers.tensors.at("fire.squeeze.bias").values == birds.tensors.at("fire.squeeze.bias").values);
}

TEST(arguments_out_of_range_are_refused) {
    const packnet::Pack pack = golden();
    const Deltas deltas(pack, 2);
    const Bank bank(deltas);
    check_refused("through", "expected 0..3, got 4", [&] { Deltas(pack, 4); });
    check_refused("task 0", "expected 1..2, got 0", [&] { deltas.content(0); });
    check_refused("task 3", "expected 1..2, got 3", [&] { deltas.materialise(3, {}); });
    check_refused("no outputs", "expected 3, one per parameter, got 0", [&] { bank.materialise(1, {}); });
    check_refused("hash of task 3", "expected 0..2, got 3", [&] { bank.sha256(3); });
}

TEST(a_pack_without_tasks_can_be_opened) {
    const Deltas deltas(golden(), 0);
    CHECK_EQUAL(deltas.tasks(), 0);
    CHECK_EQUAL(Bank(deltas).values(0)[134], 0.0f);
}

TEST(errors_carry_file_expected_and_got) {
    const GoldenCopy copy;
    write_file(copy.path / "graph.onnx", "damaged");
    try {
        packnet::read_graph(packnet::open_pack(copy.path));
        CHECK(false);
    } catch (const packnet::Error& error) {
        CHECK_EQUAL(error.file(), (copy.path / "graph.onnx").string());
        CHECK_EQUAL(error.expected(), golden().graph_sha256);
        CHECK_EQUAL(error.got(), packnet::detail::sha256("damaged", 7));
    }
}
