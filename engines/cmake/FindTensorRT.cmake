# TensorRT or TensorRT-RTX, with the CUDA runtime that it needs: targets TensorRT::nvinfer and TensorRT::cudart.
#
# TensorRT_ROOT and CUDA_ROOT say where they are, where that is not a place that CMake knows. A library of pip's wheels
# will do. The component headers is for building packnet: it brings the versions that the headers state, and comes with
# NVIDIA's archives and system packages only.
#
#     TensorRT_FLAVOUR        tensorrt or tensorrt-rtx
#     TensorRT_VERSION        of the headers: 10.13.3.9
#     TensorRT_CUDA_VERSION   of the headers: 13.0

set(CUDA_ROOT "$ENV{CUDA_PATH}" CACHE PATH "The CUDA toolkit, or what of it has cuda_runtime_api.h and libcudart")
set(_cuda_places ${CUDA_ROOT} /usr/local/cuda)

find_library(TensorRT_LIBRARY NAMES nvinfer tensorrt_rtx libtensorrt_rtx.so.1)
find_library(TensorRT_CUDA_LIBRARY NAMES cudart libcudart.so.13 libcudart.so.12 HINTS ${_cuda_places}
             PATH_SUFFIXES lib64 lib)
find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h)
find_path(TensorRT_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${_cuda_places} PATH_SUFFIXES include)
mark_as_advanced(TensorRT_LIBRARY TensorRT_CUDA_LIBRARY TensorRT_INCLUDE_DIR TensorRT_CUDA_INCLUDE_DIR)

if(TensorRT_LIBRARY MATCHES "tensorrt_rtx")
  set(TensorRT_FLAVOUR tensorrt-rtx)
else()
  set(TensorRT_FLAVOUR tensorrt)
endif()

if(TensorRT_INCLUDE_DIR AND TensorRT_CUDA_INCLUDE_DIR)
  set(TensorRT_headers_FOUND TRUE)
  file(STRINGS ${TensorRT_INCLUDE_DIR}/NvInferVersion.h _lines REGEX "#define")
  set(_numbers)
  foreach(_part MAJOR MINOR PATCH BUILD)  # TensorRT 11 and RTX define the one by the other
    foreach(_name NV_TENSORRT_${_part} TRT_${_part}_ENTERPRISE TRT_${_part}_RTX)
      if(_lines MATCHES "#define ${_name} +([0-9]+)")
        list(APPEND _numbers ${CMAKE_MATCH_1})
        break()
      endif()
    endforeach()
  endforeach()
  list(JOIN _numbers "." TensorRT_VERSION)
  file(STRINGS ${TensorRT_CUDA_INCLUDE_DIR}/cuda_runtime_api.h _lines REGEX "#define CUDART_VERSION")
  string(REGEX MATCH "[0-9]+" _number "${_lines}")
  math(EXPR _major "${_number} / 1000")
  math(EXPR _minor "${_number} % 1000 / 10")
  set(TensorRT_CUDA_VERSION ${_major}.${_minor})
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT REQUIRED_VARS TensorRT_LIBRARY TensorRT_CUDA_LIBRARY
                                  VERSION_VAR TensorRT_VERSION HANDLE_COMPONENTS)

if(TensorRT_FOUND)
  foreach(_pair "nvinfer;${TensorRT_LIBRARY};${TensorRT_INCLUDE_DIR}"
                "cudart;${TensorRT_CUDA_LIBRARY};${TensorRT_CUDA_INCLUDE_DIR}")
    list(GET _pair 0 _name)
    list(GET _pair 1 _library)
    list(GET _pair 2 _include)
    if(NOT TARGET TensorRT::${_name})
      # Shared, not unknown: CMake then tells linkers of an application where the libraries of our library are.
      add_library(TensorRT::${_name} SHARED IMPORTED)
      set_target_properties(TensorRT::${_name} PROPERTIES IMPORTED_LOCATION "${_library}")
      if(_include)
        set_target_properties(TensorRT::${_name} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_include}")
      endif()
    endif()
  endforeach()
endif()
