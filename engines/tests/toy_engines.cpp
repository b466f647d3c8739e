#include "toy_engines.h"

#include <cmath>
#include <map>
#include <thread>

#include "packnet/deltas.h"

Plan::Plan(const ToyOptions& options) { write_toy_plan(path, packnet::open_pack(pack.path), options); }
Plan::Plan(Switch mode) : Plan(options_of(mode)) {}

ToyOptions options_of(Switch mode) {
    ToyOptions options;
    options.mode = mode;
    return options;
}

EngineOptions resident(int tasks) {
    EngineOptions options;
    options.resident = tasks;
    return options;
}

EngineOptions bank_on_device() {
    EngineOptions options;
    options.bank = PACKNET_BANK_DEVICE;
    return options;
}

std::vector<Case> all_cases() {
    return {{Switch::refit, {}},         {Switch::refit, bank_on_device()}, {Switch::bind, {}},
            {Switch::bind, resident(2)}, {Switch::bind, bank_on_device()},  {Switch::selector, {}}};
}

std::vector<float> probes() { return packnet::probe_batch(packnet::open_pack(golden_path()).input); }

const std::vector<float>& expected(const std::string& task) {
    static const packnet::Pack pack = packnet::open_pack(golden_path());
    static const packnet::Deltas deltas(pack);
    static const std::map<std::string, std::vector<float>> all = [] {
        std::map<std::string, std::vector<float>> logits;
        for (const char* name : kTasks) logits[name] = deltas.content(pack.task(name).index).probe_logits.values;
        return logits;
    }();
    return all.at(task);
}

bool close(const float* got, const float* wanted, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        if (!(std::abs(got[i] - wanted[i]) < 1e-4f)) return false;
    }
    return true;
}

bool is_answer(const std::vector<float>& got, const std::string& task) {
    return got.size() == expected(task).size() && close(got.data(), expected(task).data(), got.size());
}

Mine::Mine(const std::vector<float>& pixels, std::size_t width) : room(packnet::kProbeImages * width) {
    void* address = nullptr;
    cudaMalloc(&address, pixels.size() * sizeof(float));
    images = static_cast<float*>(address);
    cudaMalloc(&address, room * sizeof(float));
    logits = static_cast<float*>(address);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMemcpyAsync(images, pixels.data(), pixels.size() * sizeof(float), cudaMemcpyDefault, stream);
    cudaStreamSynchronize(stream);
}

Mine::~Mine() {
    cudaStreamDestroy(stream);
    cudaFree(images);
    cudaFree(logits);
}

std::vector<float> Mine::wait(std::size_t classes) const {
    const std::size_t width = room / packnet::kProbeImages;
    std::vector<float> all(room), cut;
    cudaMemcpyAsync(all.data(), logits, room * sizeof(float), cudaMemcpyDefault, stream);
    cudaStreamSynchronize(stream);
    for (std::size_t i = 0; i < packnet::kProbeImages; ++i) {
        cut.insert(cut.end(), all.begin() + static_cast<std::ptrdiff_t>(i * width),
                   all.begin() + static_cast<std::ptrdiff_t>(i * width + classes));
    }
    return cut;
}

void in_threads(int count, const std::function<void(int)>& work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
}
