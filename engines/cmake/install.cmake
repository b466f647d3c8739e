# What `cmake --install` puts where, and what find_package(packnet) finds there.

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
endif()

configure_package_config_file(cmake/packnet-config.cmake.in packnet-config.cmake INSTALL_DESTINATION ${packnet_config_dir})
write_basic_package_version_file(packnet-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/packnet-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/packnet-config-version.cmake
  DESTINATION ${packnet_config_dir}
)
