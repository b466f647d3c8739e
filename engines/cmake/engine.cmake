# packnet::engine: running plans. Built where TensorRT or TensorRT-RTX is found, with kernels where there is a compiler.

if(NOT PACKNET_ENGINE)
  return()
endif()
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
find_package(TensorRT QUIET)
if(NOT TensorRT_FOUND)
  if(NOT PACKNET_ENGINE STREQUAL AUTO)
    find_package(TensorRT REQUIRED)
  endif()
  message(STATUS "No TensorRT with its headers, so packnet::engine and packnet-infer are not built; "
                 "give TensorRT_ROOT and CUDA_ROOT (README.md)")
  return()
endif()

set(masking src/trt/masking_host.cpp)
if(PACKNET_CUDA_KERNELS)
  include(CheckLanguage)
  check_language(CUDA)
endif()
if(PACKNET_CUDA_KERNELS AND CMAKE_CUDA_COMPILER)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75)  # the oldest that TensorRT runs on; drivers translate its PTX for newer ones
  endif()
  enable_language(CUDA)
  set(masking src/trt/masking.cu)
endif()
message(STATUS "packnet::engine: ${TensorRT_FLAVOUR} (${TensorRT_LIBRARY}), ${masking}")

add_library(packnet_engine
  ${masking}
  src/trt/cuda.cpp
  src/trt/engine.cpp
  src/trt/plan.cpp
  src/trt/tensorrt.cpp
  src/trt/weights.cpp
)
add_library(packnet::engine ALIAS packnet_engine)
set_target_properties(packnet_engine PROPERTIES EXPORT_NAME engine CUDA_STANDARD 17 CUDA_RUNTIME_LIBRARY Shared)
target_include_directories(packnet_engine PRIVATE src)
target_compile_definitions(packnet_engine PRIVATE PACKNET_TENSORRT_FLAVOUR="${TensorRT_FLAVOUR}")
target_link_libraries(packnet_engine PUBLIC packnet_runtime PRIVATE TensorRT::TensorRT)
packnet_compile_options(packnet_engine)
