# What `cmake --install` puts where, and what find_package(packnet) and pkg-config find there.

include(CMakePackageConfigHelpers)
set(packnet_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/packnet)

install(TARGETS packnet_runtime EXPORT packnet_targets)
install(DIRECTORY include/packnet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT packnet_targets NAMESPACE packnet:: FILE packnet-targets.cmake DESTINATION ${packnet_config_dir})
if(TARGET packnet_engine)
  install(TARGETS packnet_engine EXPORT packnet_engine_targets)
  install(EXPORT packnet_engine_targets NAMESPACE packnet:: FILE packnet-engine-targets.cmake
          DESTINATION ${packnet_config_dir})
  install(FILES cmake/FindTensorRT.cmake DESTINATION ${packnet_config_dir})
  get_filename_component(packnet_backend_folder ${TensorRT_LIBRARY} DIRECTORY)
  get_filename_component(packnet_cuda_folder ${TensorRT_CUDA_LIBRARY} DIRECTORY)
endif()

configure_package_config_file(cmake/packnet-config.cmake.in packnet-config.cmake INSTALL_DESTINATION ${packnet_config_dir})
write_basic_package_version_file(packnet-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/packnet-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/packnet-config-version.cmake
  DESTINATION ${packnet_config_dir}
)

# Static libraries are linked with all that they need; shared ones bring it.
file(RELATIVE_PATH packnet_pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(packnet_pc_files packnet.pc)
if(NOT BUILD_SHARED_LIBS)
  set(packnet_static_libs " -lstdc++ -lm -pthread")
  set(packnet_engine_static_libs " -lpacknet ${TensorRT_LIBRARY} ${TensorRT_CUDA_LIBRARY}${packnet_static_libs}")
endif()
if(TARGET packnet_engine)
  list(APPEND packnet_pc_files packnet-engine.pc)
endif()
foreach(file ${packnet_pc_files})
  configure_file(cmake/${file}.in ${file} @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${file} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
