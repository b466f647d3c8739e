# The stand-ins as a library: packnet_stub.

add_library(packnet_stub STATIC
  stub/graphs.cpp stub/memory.cpp stub/streams.cpp stub/world.cpp
  stub/nvinfer.cpp stub/toy_context.cpp stub/toy_plan.cpp stub/toy_refitter.cpp)
packnet_compile_options(packnet_stub)
target_include_directories(packnet_stub PUBLIC stub/include PRIVATE stub ../src)
target_link_libraries(packnet_stub PUBLIC Threads::Threads)
