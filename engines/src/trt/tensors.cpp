#include "tensors.h"

#include <algorithm>
#include <map>
#include <vector>

#include "packnet/error.h"
#include "text.h"

namespace packnet::detail {
namespace {

namespace trt = nvinfer1;

struct Tensor {
    trt::TensorIOMode mode;
    trt::DataType type;
    std::vector<std::int64_t> shape;

    bool operator==(const Tensor& other) const {
        return mode == other.mode && type == other.type && shape == other.shape;
    }
};

std::vector<std::int64_t> sizes(const trt::Dims& shape) {
    return {shape.d, shape.d + std::clamp<std::int32_t>(shape.nbDims, 0, trt::Dims::MAX_DIMS)};
}

/// Batches of one size only are a dimension of that size, not of -1.
std::map<std::string, Tensor> expected_of(const Sidecar& sidecar) {
    const InputSpec& input = sidecar.input;
    const std::int64_t batch = sidecar.batch.least == sidecar.batch.most ? sidecar.batch.most : -1;
    std::map<std::string, Tensor> expected{
        {kImages,
         {trt::TensorIOMode::kINPUT, trt::DataType::kFLOAT, {batch, input.channels, input.height, input.width}}},
        {kLogits, {trt::TensorIOMode::kOUTPUT, trt::DataType::kFLOAT, {batch, sidecar.classes}}}};
    if (sidecar.mode == Switch::selector) expected[kTask] = {trt::TensorIOMode::kINPUT, trt::DataType::kINT32, {1}};
    if (sidecar.mode == Switch::bind) {
        for (const SwitchedWeight& weight : sidecar.weights)
            expected[weight.name] = {trt::TensorIOMode::kINPUT, type_of(weight.dtype), weight.shape};
    }
    return expected;
}

std::string shown(const Tensor& tensor) {
    const char* const direction = tensor.mode == trt::TensorIOMode::kINPUT    ? "an input"
                                  : tensor.mode == trt::TensorIOMode::kOUTPUT ? "an output"
                                                                              : "neither input nor output";
    return std::string(direction) + " of TensorRT's type " + std::to_string(static_cast<int>(tensor.type)) + ' ' +
           listed(tensor.shape);
}

}  // namespace

trt::DataType type_of(Precision precision) noexcept {
    return precision == Precision::fp32   ? trt::DataType::kFLOAT
           : precision == Precision::fp16 ? trt::DataType::kHALF
                                          : trt::DataType::kBF16;
}

std::string shown(const trt::Dims& shape) { return listed(sizes(shape)); }

void check_tensors(const std::string& plan, const trt::ICudaEngine& engine, const Sidecar& sidecar) {
    std::map<std::string, Tensor> missing = expected_of(sidecar);
    for (std::int32_t i = 0; i < engine.getNbIOTensors(); ++i) {
        const char* const name = engine.getIOTensorName(i);
        const auto known = missing.find(name);
        if (known == missing.end()) {
            throw Error(plan, "inputs and outputs", "those of its sidecar", in_quotes(name) + " as well", kBuildAgain);
        }
        const Tensor got{engine.getTensorIOMode(name), engine.getTensorDataType(name),
                         sizes(engine.getTensorShape(name))};
        const Tensor expected = known->second;
        if (!(got == expected))
            throw Error(plan, "tensor " + in_quotes(name), shown(expected) + ", as its sidecar says", shown(got),
                        kBuildAgain);
        if (engine.getTensorFormat(name) != trt::TensorFormat::kLINEAR)
            throw Error(plan, "tensor " + in_quotes(name), "in rows, as this runtime lays weights out",
                        "another layout in memory", "build the plan without --channels-last, or run it in Python");
        missing.erase(known);
    }
    if (!missing.empty()) {
        throw Error(plan, "inputs and outputs", in_quotes(missing.begin()->first), "none such", kBuildAgain);
    }
    const auto batch = [&](trt::OptProfileSelector which) { return engine.getProfileShape(kImages, 0, which).d[0]; };
    const std::vector<std::int64_t> got{batch(trt::OptProfileSelector::kMIN), batch(trt::OptProfileSelector::kMAX)};
    const std::vector<std::int64_t> expected{sidecar.batch.least, sidecar.batch.most};
    if (got[0] > expected[0] || got[1] < expected[1])
        throw Error(plan, "batches", listed(expected) + ", as its sidecar says", listed(got), kBuildAgain);
}

}  // namespace packnet::detail
