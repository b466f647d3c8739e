# packnet::engine: running plans. Built where TensorRT or TensorRT-RTX is found, with kernels where there is a compiler.

set(packnet_engine_sources
  src/trt/bind_plan.cpp
  src/trt/c_api.cpp
  src/trt/context.cpp
  src/trt/cuda.cpp
  src/trt/engine.cpp
  src/trt/placed_bank.cpp
  src/trt/plan.cpp
  src/trt/refit_plan.cpp
  src/trt/switched_plan.cpp
  src/trt/tensorrt.cpp
  src/trt/tensorrt_plan.cpp
  src/trt/tensors.cpp
  src/trt/weight_buffer.cpp
)

function(packnet_engine_options target flavour)
  packnet_compile_options(${target})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${target} PRIVATE
    PACKNET_TENSORRT_FLAVOUR="${flavour}" PACKNET_VERSION="${PROJECT_VERSION}")
endfunction()

if(NOT PACKNET_ENGINE)
  return()
endif()
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
find_package(TensorRT QUIET COMPONENTS headers)
if(NOT TensorRT_FOUND)
  if(NOT PACKNET_ENGINE STREQUAL AUTO)
    find_package(TensorRT REQUIRED COMPONENTS headers)
  endif()
  message(STATUS "No TensorRT with its headers, so packnet::engine and packnet-infer are not built; "
                 "give TensorRT_ROOT and CUDA_ROOT (README.md)")
  return()
endif()

set(kernels src/trt/no_kernels.cpp)
if(PACKNET_CUDA_KERNELS)
  include(CheckLanguage)
  check_language(CUDA)
endif()
if(PACKNET_CUDA_KERNELS AND CMAKE_CUDA_COMPILER)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75)  # the oldest that TensorRT runs on; drivers translate its PTX for newer ones
  endif()
  enable_language(CUDA)
  set(kernels src/trt/kernels.cu)
endif()
message(STATUS "packnet::engine: ${TensorRT_FLAVOUR} ${TensorRT_VERSION} (${TensorRT_LIBRARY}), CUDA ${TensorRT_CUDA_VERSION}, "
               "${kernels}")

add_library(packnet_engine ${packnet_engine_sources} ${kernels})
add_library(packnet::engine ALIAS packnet_engine)
packnet_library(packnet_engine engine packnet_engine)
packnet_engine_options(packnet_engine "${TensorRT_FLAVOUR}")
set_target_properties(packnet_engine PROPERTIES CUDA_STANDARD 17 CUDA_RUNTIME_LIBRARY Shared)
target_link_libraries(packnet_engine PUBLIC packnet_runtime PRIVATE TensorRT::nvinfer TensorRT::cudart)
if(BUILD_SHARED_LIBS)
  # It shows packnet.h alone, and brings what it needs of the reader itself: C++ is linked by nobody.
  target_sources(packnet_engine PRIVATE $<TARGET_OBJECTS:packnet_core>)
  set(exported ${CMAKE_CURRENT_SOURCE_DIR}/cmake/exported.map)
  target_link_options(packnet_engine PRIVATE "LINKER:--version-script=${exported}")
  set_target_properties(packnet_engine PROPERTIES LINK_DEPENDS ${exported} INSTALL_RPATH_USE_LINK_PATH ON)
endif()
