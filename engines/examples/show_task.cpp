// show_task PACK TASK: opens a pack, materialises one task, and says what is in it.

#include <packnet/bank.h>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace {

void show(const char* path, const char* name) {
    const packnet::Pack pack = packnet::open_pack(path);
    const packnet::TaskEntry& task = pack.task(name);
    const packnet::Deltas deltas(pack, task.index);  // reads and checks no more than this task needs
    const packnet::Bank bank(deltas);

    std::vector<std::vector<float>> weights;
    std::vector<float*> out;
    for (const packnet::Parameter& parameter : bank.parameters()) weights.emplace_back(parameter.size);
    for (std::vector<float>& values : weights) out.push_back(values.data());
    bank.materialise(task.index, out);

    for (std::size_t i = 0; i < weights.size(); ++i) {
        const auto zeros = std::count(weights[i].begin(), weights[i].end(), 0.0f);
        std::printf("%s: %zu weights, %td of them 0\n", pack.parameters[i].name.c_str(), weights[i].size(), zeros);
    }
    for (const std::string& label : deltas.content(task.index).classes) std::printf("class %s\n", label.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: show_task PACK TASK\n");
        return 2;
    }
    try {
        show(argv[1], argv[2]);
    } catch (const packnet::Error& error) {
        std::fprintf(stderr, "show_task: %s\n", error.what());
        return 4;
    }
}
