// Decoding over several chunks, against a decoder that takes one weight at a time, as docs/format.md reads.

#include <cmath>
#include <limits>
#include <random>

#include "bits.h"
#include "check.h"
#include "decode.h"
#include "golden.h"

namespace {

using namespace packnet::detail;

constexpr std::size_t kWeights = 2 * kChunk + 77;

/// What one task stores of the only parameter.
struct Stored {
    std::string dtype;
    bool has_mask;
    std::string mask;
    std::vector<float> values;
};

/// Tasks that take `shares` of what is free; 1 for all of it. All values are whole numbers that any dtype holds.
std::vector<Stored> made_tasks(const std::vector<double>& shares, const std::vector<std::string>& dtypes) {
    std::mt19937 random(1);
    std::vector<Stored> tasks;
    std::size_t free = kWeights;
    for (std::size_t task = 0; task < shares.size(); ++task) {
        Stored stored{dtypes[task], shares[task] < 1, std::string((free + 7) / 8, '\0'), {}};
        for (std::size_t bit = 0; bit < free; ++bit) {
            if (static_cast<double>(random()) >= shares[task] * 4294967296.0) continue;
            stored.mask[bit / 8] |= static_cast<char>(1 << bit % 8);
            stored.values.push_back(static_cast<float>(random() % 255) - 127);
        }
        free -= stored.values.size();
        tasks.push_back(std::move(stored));
    }
    return tasks;
}

/// The slow decoder.
void decode_slowly(const std::vector<Stored>& tasks, std::size_t through, std::vector<float>& values,
                   std::vector<std::uint8_t>& owners) {
    values.assign(kWeights, 0.0f);
    owners.assign(kWeights, 0);
    for (std::size_t task = 0; task < through; ++task) {
        std::size_t bit = 0, value = 0;
        for (std::size_t i = 0; i < kWeights; ++i) {
            if (owners[i] != 0) continue;
            if (!tasks[task].has_mask || tasks[task].mask[bit / 8] >> bit % 8 & 1) {
                owners[i] = static_cast<std::uint8_t>(task + 1);
                values[i] = tasks[task].values[value++];
            }
            ++bit;
        }
    }
}

template <typename T>
void append(std::string& bytes, T number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

/// A whole number of at most 8 bits as the bits of a float16.
std::uint16_t half_of(float number) {
    if (number == 0) return 0;
    int exponent;
    const float fraction = std::frexp(std::abs(number), &exponent);
    const auto bits =
        static_cast<std::uint16_t>(((exponent + 14) << 10) + static_cast<int>(std::ldexp(fraction, 11)) - 1024);
    return static_cast<std::uint16_t>(bits | (number < 0 ? 0x8000 : 0));
}

std::string encoded(const Stored& task) {
    std::string bytes;
    for (float value : task.values) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        if (task.dtype == "F32") append(bytes, bits);
        if (task.dtype == "BF16") append(bytes, static_cast<std::uint16_t>(bits >> 16));
        if (task.dtype == "F16") append(bytes, half_of(value));
    }
    return bytes;
}

struct World {
    packnet::Pack pack = packnet::open_pack(golden_path());
    std::vector<ExactBytes> files;
    Chain chain;
};

World made_world(const std::vector<Stored>& tasks) {
    World world;
    world.pack.parameters = {{"p", {static_cast<std::int64_t>(kWeights)}, "", kWeights}};
    world.pack.tasks.clear();
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const std::string name = "task" + std::to_string(i + 1), hash(64, static_cast<char>('0' + i));
        Forgery delta(golden_deltas()[0]);
        delta.metadata["task"] = name;
        delta.metadata["index"] = std::to_string(i + 1);
        delta.metadata["parent"] = i ? world.pack.tasks.back().sha256 : "";
        for (const char* parameter : {"conv1.weight", "fire.squeeze.weight", "fire.expand.weight"}) {
            delta.tensors.erase(std::string("mask/") + parameter);
            delta.tensors.erase(std::string("values/") + parameter);
        }
        for (auto tensor = delta.tensors.begin(); i && tensor != delta.tensors.end();) {
            tensor = tensor->first.rfind("shared/", 0) == 0 ? delta.tensors.erase(tensor) : std::next(tensor);
        }
        const auto count = static_cast<std::int64_t>(tasks[i].values.size());
        delta.tensors["values/p"] = {tasks[i].dtype, {count}, encoded(tasks[i])};
        const auto bytes = static_cast<std::int64_t>(tasks[i].mask.size());
        if (tasks[i].has_mask) delta.tensors["mask/p"] = {"U8", {bytes}, tasks[i].mask};
        world.files.emplace_back(delta.bytes());
        world.pack.tasks.push_back({name, static_cast<int>(i) + 1, 3, hash, 0});
    }
    world.chain = check_chain(world.pack, {world.files.begin(), world.files.end()});
    return world;
}

}  // namespace

TEST(chunks_are_decoded_as_the_slow_decoder_decodes_them) {
    const std::vector<Stored> tasks =
        made_tasks({0.3, 0.0, 0.9, 0.01, 0.5, 1.0, 1.0}, {"F32", "F32", "BF16", "F16", "F32", "BF16", "F16"});
    const World world = made_world(tasks);
    std::vector<float> expected;
    std::vector<std::uint8_t> expected_owners;
    for (int through = 1; through <= 7; ++through) {
        decode_slowly(tasks, static_cast<std::size_t>(through), expected, expected_owners);
        for (Processor processor : {Processor::any, this_processor()}) {
            std::vector<float> values(kWeights, 7.0f);
            std::vector<std::uint8_t> owners(kWeights, 7);
            for (std::size_t chunk : {2, 0, 1}) {
                decode_chunk(world.chain, 0, chunk, through, &values[chunk * kChunk], &owners[chunk * kChunk],
                             processor);
            }
            CHECK(values == expected);
            CHECK(owners == expected_owners);
        }
    }
}

TEST(a_mask_that_changes_after_the_check_cannot_make_the_decoder_read_on) {
    World world = made_world(made_tasks({0.01, 0.5}, {"F32", "F16"}));
    Share& share = world.chain.deltas[0].shares[0];
    const ExactBytes changed(std::string(share.mask.size, '\xff'));
    share.mask = changed;
    std::vector<float> values(kWeights);
    check_refused("more bits", "it changed while it was read",
                  [&] { decode_chunk(world.chain, 0, 2, 2, &values[2 * kChunk], nullptr); });
}

TEST(every_float16_is_widened_exactly) {
    std::vector<Stored> tasks = made_tasks({1.0}, {"F32"});
    World world = made_world(tasks);
    std::string halves;
    for (std::size_t i = 0; i < kWeights; ++i) append(halves, static_cast<std::uint16_t>(i));
    const ExactBytes bytes(halves);
    packnet::detail::TensorEntry& stored = world.chain.deltas[0].shares[0].values;
    stored.dtype = Dtype::f16;
    stored.data = Bytes(bytes).data;
    std::vector<float> values(kWeights);
    decode_chunk(world.chain, 0, 0, 1, values.data(), nullptr);
    for (int bits = 0; bits < 65536; ++bits) {
        const int exponent = bits >> 10 & 31, fraction = bits & 1023;
        const float got = values[static_cast<std::size_t>(bits)];
        CHECK_EQUAL(std::signbit(got), bits >= 32768);
        if (exponent == 31) {
            CHECK(fraction ? std::isnan(got) : std::isinf(got));
        } else {
            const float magnitude = exponent ? std::ldexp(static_cast<float>(1024 + fraction), exponent - 25)
                                             : std::ldexp(static_cast<float>(fraction), -24);
            CHECK_EQUAL(std::abs(got), magnitude);
        }
    }
}

TEST(bits_are_read_from_anywhere) {
    std::mt19937 random(2);
    std::string bytes(37, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const ExactBytes mask(bytes);
    const auto bit = [&](std::size_t i) {
        return i < 37 * 8 ? static_cast<unsigned char>(bytes[i / 8]) >> i % 8 & 1 : 0;
    };
    for (std::size_t from = 0; from < 37 * 8 + 70; ++from) {
        for (std::size_t count : {0, 1, 7, 8, 57, 63, 64}) {
            std::uint64_t expected = 0;
            for (std::size_t i = 0; i < count; ++i) expected |= std::uint64_t(bit(from + i)) << i;
            CHECK_EQUAL(read_bits(mask, from, count), expected);
        }
    }
    std::size_t total = 0;
    for (std::size_t i = 13; i < 200; ++i) total += static_cast<std::size_t>(bit(i));
    CHECK_EQUAL(count_ones(mask, 13, 200), total);
}

TEST(bits_are_deposited_in_order) {
    std::mt19937_64 random(3);
    for (int round = 0; round < 20000; ++round) {
        const std::uint64_t bits = random(), places = round % 2 ? random() : random() & random() & random();
        std::uint64_t expected = 0, rest = bits;
        for (int i = 0; i < 64; ++i) {
            if (!(places >> i & 1)) continue;
            expected |= (rest & 1) << i;
            rest >>= 1;
        }
        CHECK_EQUAL(Depositor()(bits, places), expected);
    }
    CHECK_EQUAL(Depositor()(0x5, ~std::uint64_t{0}), std::uint64_t{5});
}
