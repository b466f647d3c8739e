// A pack on disk whose files are not what pack.json says: one test per rejection.

#include <sys/stat.h>

#include "check.h"
#include "golden.h"
#include "json_text.h"
#include "packnet/bank.h"

namespace fs = std::filesystem;

namespace {

constexpr const char* kDelta = "deltas/0002-birds.safetensors";

void read_all(const fs::path& path) {
    const packnet::Pack pack = packnet::open_pack(path);
    packnet::read_graph(pack);
    packnet::Bank bank{packnet::Deltas(pack)};
}

/// Do `damage` to one file of a copy; reading it must be refused.
void check_damaged(const char* file, const std::string& words, void (*damage)(const fs::path&)) {
    const GoldenCopy copy;
    read_all(copy.path);
    damage(copy.path / file);
    check_refused(file, words, [&] { read_all(copy.path); });
}

void remove_it(const fs::path& path) { fs::remove(path); }

void empty_it(const fs::path& path) { fs::resize_file(path, 0); }

void flip_a_bit(const fs::path& path) {
    std::string bytes = read_file(path);
    bytes.back() ^= 1;
    write_file(path, bytes);
}

void make_it_a_folder(const fs::path& path) {
    fs::remove(path);
    fs::create_directory(path);
}

void make_it_a_pipe(const fs::path& path) {
    fs::remove(path);
    CHECK_EQUAL(::mkfifo(path.c_str(), 0600), 0);
}

}  // namespace

TEST(a_folder_that_is_no_pack_is_refused) { check_damaged("pack.json", "the folder is not a pack", remove_it); }
TEST(what_is_not_there_is_the_machines_fault_and_what_a_pack_lacks_its_own) {
    const auto is_fault = [](const fs::path& path) {
        try {
            read_all(path);
        } catch (const packnet::EnvironmentFault&) {
            return true;
        } catch (const packnet::Error&) {
            return false;
        }
        return false;
    };
    const GoldenCopy copy;
    CHECK(is_fault(copy.path / "gone"));
    fs::remove(copy.path / kDelta);
    CHECK(!is_fault(copy.path));
    fs::remove(copy.path / "pack.json");
    CHECK(!is_fault(copy.path));
}
TEST(an_empty_pack_json_is_refused) { check_damaged("pack.json", "pack.json: damaged: expected JSON", empty_it); }
TEST(a_pack_json_that_is_a_folder_is_refused) { check_damaged("pack.json", "not a regular file", make_it_a_folder); }
TEST(a_missing_delta_is_refused) { check_damaged(kDelta, "birds.safetensors: no such file", remove_it); }
TEST(an_empty_delta_is_refused) { check_damaged(kDelta, "size: expected 1376 bytes as in pack.json, got 0", empty_it); }
TEST(a_damaged_delta_is_refused) { check_damaged(kDelta, "damaged: sha256: expected", flip_a_bit); }
TEST(a_delta_that_is_a_folder_is_refused) { check_damaged(kDelta, "not a regular file", make_it_a_folder); }
TEST(a_delta_that_is_a_pipe_is_refused) { check_damaged(kDelta, "not a regular file", make_it_a_pipe); }
TEST(a_missing_graph_is_refused) { check_damaged("graph.onnx", "graph.onnx: no such file", remove_it); }
TEST(a_damaged_graph_is_refused) { check_damaged("graph.onnx", "damaged: sha256: expected", flip_a_bit); }

TEST(a_delta_of_another_size_is_refused) {
    const GoldenCopy copy;
    write_file(copy.path / "pack.json", changed(read_file(copy.path / "pack.json"), "tasks/1/bytes", "1375"));
    check_refused("size", "expected 1375 bytes as in pack.json, got 1376", [&] { read_all(copy.path); });
}

TEST(earlier_tasks_of_a_damaged_pack_can_be_read) {
    const GoldenCopy copy;
    fs::remove(copy.path / "deltas/0003-flowers.safetensors");
    CHECK_EQUAL(packnet::Deltas(packnet::open_pack(copy.path), 2).tasks(), 2);
}
