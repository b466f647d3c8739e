// Stand-in: the version that the stand-in for TensorRT says it is. See ../README.md.
#pragma once

#define NV_TENSORRT_MAJOR 10
#define NV_TENSORRT_MINOR 13
#define NV_TENSORRT_PATCH 3
#define NV_TENSORRT_BUILD 9
