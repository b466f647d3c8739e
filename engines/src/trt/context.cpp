#include "context.h"

#include <cstdint>
#include <optional>
#include <tuple>

#include "layout.h"
#include "tensors.h"
#include "text.h"

namespace packnet::detail {
namespace {

namespace trt = nvinfer1;

/// A CUDA graph, ready to be launched.
class RecordedGraph {
public:
    explicit RecordedGraph(cudaGraph_t graph) {
        check_cuda(cudaGraphInstantiateWithFlags(&launchable_, graph, 0), "a CUDA graph");
    }
    ~RecordedGraph() { cudaGraphExecDestroy(launchable_); }
    RecordedGraph(const RecordedGraph&) = delete;
    RecordedGraph& operator=(const RecordedGraph&) = delete;

    void launch(cudaStream_t stream) const {
        check_cuda(cudaGraphLaunch(launchable_, stream), "launching a CUDA graph");
    }

private:
    cudaGraphExec_t launchable_ = nullptr;
};

class TensorRtContext : public LoadedPlan::Context {
public:
    explicit TensorRtContext(Plan& plan)
        : plan_(plan), context_(plan.engine().createExecutionContext()), records_(plan.records()) {
        check(context_ != nullptr, "an execution context");
    }

    ~TensorRtContext() override {
        done_->wait_quietly();
        cudaStreamSynchronize(stream_.get());
    }

    void enqueue(const Batch& batch, void* stream) override {
        check_address(batch.images, "images");
        check_address(batch.logits, "logits");
        const auto queue = static_cast<cudaStream_t>(stream);
        done_->hold_back(queue);  // a context runs one batch at a time, whatever their streams
        plan_.hold_back(batch.place, queue);
        plan_.add_use(batch.place, done_);
        try {
            run(batch, queue);
            done_->record(queue);
        } catch (...) {
            cudaStreamSynchronize(queue);  // whatever part of it was enqueued uses the weights and the caller's memory
            throw;
        }
    }

    void infer(const Batch& batch, std::size_t classes) override {
        const Sidecar& sidecar = plan_.sidecar();
        const auto count = static_cast<std::size_t>(batch.count),
                   row = sizeof(float) * static_cast<std::size_t>(sidecar.classes);
        const std::size_t image = sizeof(float) * sidecar.input.image_size();
        if (!own_images_.as<void>()) {
            const auto most = static_cast<std::size_t>(sidecar.batch.most);
            own_images_ = DeviceMemory(most * image, "memory for images");
            own_logits_ = DeviceMemory(most * row, "memory for logits");
        }
        Batch ours = batch;
        ours.images = own_images_.as<float>();
        ours.logits = own_logits_.as<float>();
        stream_.copy(own_images_.as<void>(), batch.images, count * image);
        if (batch.count < sidecar.batch.least) {  // the plan takes no fewer: black images go along
            ours.count = sidecar.batch.least;
            stream_.clear(own_images_.as<std::byte>() + count * image,
                          (static_cast<std::size_t>(ours.count) - count) * image);
        }
        enqueue(ours, stream_.get());
        const std::size_t wanted = sizeof(float) * classes;
        check_cuda(cudaMemcpy2DAsync(batch.logits, wanted, ours.logits, row, wanted, count, cudaMemcpyDeviceToHost,
                                     stream_.get()),
                   "copying logits");
        stream_.wait();
    }

private:
    /// What a recorded batch depends on.
    using Key = std::tuple<const float*, float*, int, int, int, std::uint64_t>;

    void run(const Batch& batch, cudaStream_t stream) {
        const Key key{batch.images, batch.logits, batch.count, batch.place, batch.task, plan_.version()};
        const bool again = key == last_;
        if (!again) {
            last_.reset();
            graph_.reset();
            bind(batch);
        }
        if (again && records_ && !graph_) record();
        if (graph_) {
            graph_->launch(stream);
        } else {
            check(context_->enqueueV3(stream), "inference");
        }
        last_ = key;
    }

    void bind(const Batch& batch) {
        if (batch.count != count_) {
            count_ = 0;
            const Sidecar& sidecar = plan_.sidecar();
            const InputSpec& input = sidecar.input;
            check(context_->setInputShape(kImages, {4, {batch.count, input.channels, input.height, input.width}}),
                  "the shape of the images");
            const trt::Dims logits = context_->getTensorShape(kLogits);
            if (logits.nbDims != 2 || logits.d[0] != batch.count || logits.d[1] != sidecar.classes) {
                throw Error(plan_.name(), "logits of " + std::to_string(batch.count) + " images",
                            listed({batch.count, sidecar.classes}) + ", as its sidecar says", shown(logits),
                            kBuildAgain);
            }
            count_ = batch.count;
        }
        check(context_->setInputTensorAddress(kImages, batch.images), "the address of the images");
        check(context_->setTensorAddress(kLogits, batch.logits), "the address of the logits");
        if (std::pair(batch.place, batch.task) == bound_) return;
        bound_ = {-1, -1};
        for (const auto& [name, address] : plan_.bindings(batch))
            check(context_->setTensorAddress(name, address), "the address of an input");
        bound_ = {batch.place, batch.task};
    }

    /// Record the batch that is bound. Where that cannot be done, batches are run without, once and for all.
    void record() {
        try {
            check_cuda(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "recording a batch");
            const bool enqueued = context_->enqueueV3(stream_.get());
            cudaGraph_t graph = nullptr;
            const cudaError_t code = cudaStreamEndCapture(stream_.get(), &graph);
            const std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, cudaError_t (*)(cudaGraph_t)> kept(
                graph, cudaGraphDestroy);
            check(enqueued, "recording a batch");
            check_cuda(code, "recording a batch");
            graph_.emplace(graph);
        } catch (const Error& error) {
            (void)cudaGetLastError();  // it is told, and must not come up again
            records_ = false;
            TensorRtLog::instance().say(PACKNET_WARNING, std::string("without CUDA graphs: ") + error.what());
        }
    }

    void check_address(const void* address, const char* what) const {
        const auto rest = reinterpret_cast<std::uintptr_t>(address) % kAlignment;
        if (address && rest == 0) return;
        throw Error({}, std::string("address of the ") + what, "a multiple of 256 on the GPU",
                    address ? std::to_string(rest) + " beyond one" : "null");
    }

    void check(bool success, const char* what) const { TensorRtLog::instance().check(success, plan_.name(), what); }

    Plan& plan_;
    Stream stream_;
    const std::shared_ptr<Event> done_ = std::make_shared<Event>();  // the last batch
    DeviceMemory own_images_, own_logits_;                           // for requests with memory on the host
    std::unique_ptr<trt::IExecutionContext> context_;                // gone before what it is bound to
    int count_ = 0;                                                  // images it is shaped for; 0 for none
    std::pair<int, int> bound_{-1, -1};                              // place and task
    bool records_;
    std::optional<Key> last_;
    std::optional<RecordedGraph> graph_;  // of last_
};

}  // namespace

std::unique_ptr<LoadedPlan::Context> make_tensorrt_context(Plan& plan) {
    return std::make_unique<TensorRtContext>(plan);
}

}  // namespace packnet::detail
