// Captures of streams, and graphs.

#include "world.h"

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (stream->is_capturing || stub_thread.capturing) return stub_answer(cudaErrorStreamCaptureUnsupported);
    stream->is_capturing = true;
    stream->spoilt = false;
    stream->captured.clear();
    stub_thread.capturing = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    if (!stream->is_capturing) return stub_answer(cudaErrorInvalidValue);
    stream->is_capturing = false;
    stub_thread.capturing = nullptr;
    *graph = nullptr;
    if (stream->spoilt) return stub_answer(cudaErrorStreamCaptureInvalidated);
    *graph = new CUgraph_st{std::move(stream->captured)};
    ++stub_world().live;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* launchable, cudaGraph_t graph, unsigned long long) {
    if (stub_fails("cudaGraphInstantiate")) return stub_answer(cudaErrorUnknown);
    *launchable = new CUgraphExec_st{graph->work};
    ++stub_world().live;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (graph) --stub_world().live;
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t launchable) {
    if (launchable) --stub_world().live;
    delete launchable;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t launchable, cudaStream_t stream) {
    if (stub_fails("cudaGraphLaunch")) return stub_answer(cudaErrorUnknown);
    stub_count(&StubCounts::graph_launches);
    for (const StubWork& work : launchable->work) {
        if (const cudaError_t code = stub_enqueue(stream, work)) return code;
    }
    return cudaSuccess;
}

}  // extern "C"
