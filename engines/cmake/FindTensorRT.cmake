# TensorRT or TensorRT-RTX, with the CUDA runtime that it needs: target TensorRT::TensorRT, and TensorRT_FLAVOUR.
#
# TensorRT_ROOT and CUDA_ROOT say where they are, where that is not a place that CMake knows. A library of pip's wheels
# will do; headers come with NVIDIA's archives and system packages only.

set(CUDA_ROOT "$ENV{CUDA_PATH}" CACHE PATH "The CUDA toolkit, or what of it has cuda_runtime_api.h and libcudart")

find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h)
find_library(TensorRT_LIBRARY NAMES nvinfer tensorrt_rtx libtensorrt_rtx.so.1)
set(_cuda_places ${CUDA_ROOT} /usr/local/cuda)
find_path(TensorRT_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${_cuda_places} PATH_SUFFIXES include)
find_library(TensorRT_CUDA_LIBRARY NAMES cudart libcudart.so.13 libcudart.so.12 HINTS ${_cuda_places}
             PATH_SUFFIXES lib64 lib)
mark_as_advanced(TensorRT_INCLUDE_DIR TensorRT_LIBRARY TensorRT_CUDA_INCLUDE_DIR TensorRT_CUDA_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT REQUIRED_VARS
  TensorRT_LIBRARY TensorRT_INCLUDE_DIR TensorRT_CUDA_LIBRARY TensorRT_CUDA_INCLUDE_DIR)

if(TensorRT_FOUND)
  if(TensorRT_LIBRARY MATCHES "tensorrt_rtx")
    set(TensorRT_FLAVOUR tensorrt-rtx)
  else()
    set(TensorRT_FLAVOUR tensorrt)
  endif()
  if(NOT TARGET TensorRT::TensorRT)
    add_library(TensorRT::TensorRT INTERFACE IMPORTED)
    set_target_properties(TensorRT::TensorRT PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIR};${TensorRT_CUDA_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "${TensorRT_LIBRARY};${TensorRT_CUDA_LIBRARY}")
  endif()
endif()
