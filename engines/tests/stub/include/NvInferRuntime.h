// Stand-in: the part of TensorRT's runtime that packnet::engine uses. See ../README.md.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "NvInferVersion.h"

namespace nvinfer1 {

enum class TensorFormat : std::int32_t { kLINEAR = 0 };
enum class DataType : std::int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBF16 = 7 };
enum class TensorIOMode : std::int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class TensorLocation : std::int32_t { kDEVICE = 0, kHOST = 1 };
enum class OptProfileSelector : std::int32_t { kMIN = 0, kOPT = 1, kMAX = 2 };

class Dims64 {
public:
    static constexpr std::int32_t MAX_DIMS{8};
    std::int32_t nbDims;
    std::int64_t d[MAX_DIMS];
};
using Dims = Dims64;

class Weights {
public:
    DataType type;
    void const* values;
    std::int64_t count;
};

class ILogger {
public:
    enum class Severity : std::int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, char const* message) noexcept = 0;
    ILogger() = default;
    virtual ~ILogger() = default;
};

class IExecutionContext {
public:
    virtual ~IExecutionContext() noexcept = default;
    virtual bool setInputShape(char const* name, Dims const& shape) noexcept = 0;
    virtual Dims getTensorShape(char const* name) const noexcept = 0;
    virtual bool setTensorAddress(char const* name, void* address) noexcept = 0;
    virtual bool setInputTensorAddress(char const* name, void const* address) noexcept = 0;
    virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
};

class ICudaEngine {
public:
    virtual ~ICudaEngine() noexcept = default;
    virtual std::int32_t getNbIOTensors() const noexcept = 0;
    virtual char const* getIOTensorName(std::int32_t index) const noexcept = 0;
    virtual TensorIOMode getTensorIOMode(char const* name) const noexcept = 0;
    virtual DataType getTensorDataType(char const* name) const noexcept = 0;
    virtual TensorFormat getTensorFormat(char const*) const noexcept { return TensorFormat::kLINEAR; }
    virtual Dims getTensorShape(char const* name) const noexcept = 0;
    virtual Dims getProfileShape(char const* name, std::int32_t profile, OptProfileSelector which) const noexcept = 0;
    virtual bool isRefittable() const noexcept = 0;
    virtual IExecutionContext* createExecutionContext() noexcept = 0;
};

class IRuntime {
public:
    virtual ~IRuntime() noexcept = default;
    virtual ICudaEngine* deserializeCudaEngine(void const* plan, std::size_t size) noexcept = 0;
};

class IRefitter {
public:
    virtual ~IRefitter() noexcept = default;
    virtual std::int32_t getAllWeights(std::int32_t size, char const** names) noexcept = 0;
    virtual std::int32_t getMissingWeights(std::int32_t size, char const** names) noexcept = 0;
    virtual Weights getWeightsPrototype(char const* name) const noexcept = 0;
    virtual bool setNamedWeights(char const* name, Weights weights, TensorLocation location) noexcept = 0;
    virtual bool unsetNamedWeights(char const* name) noexcept = 0;
    virtual void setWeightsValidation(bool validates) noexcept = 0;
    virtual bool setMaxThreads(std::int32_t threads) noexcept = 0;
    virtual bool refitCudaEngineAsync(cudaStream_t stream) noexcept = 0;
};

IRuntime* createInferRuntime(ILogger& logger) noexcept;
IRefitter* createInferRefitter(ICudaEngine& engine, ILogger& logger) noexcept;

}  // namespace nvinfer1

extern "C" {
std::int32_t getInferLibMajorVersion() noexcept;
std::int32_t getInferLibMinorVersion() noexcept;
std::int32_t getInferLibPatchVersion() noexcept;
std::int32_t getInferLibBuildVersion() noexcept;
}
