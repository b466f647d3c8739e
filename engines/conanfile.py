"""A Conan 2 recipe that takes TensorRT and CUDA from the system, since neither may be redistributed.

conan create engines                                       # the reader, and the engine where TensorRT is found
conan create engines -o 'packnet/*:engine=True' -c 'tools.cmake.cmaketoolchain:extra_variables={"TensorRT_ROOT": "…"}'
"""

import re
from pathlib import Path
from typing import ClassVar

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout


class Packnet(ConanFile):
    name = "packnet"
    description = "Reads packs: many tasks in one network; runs TensorRT plans as any of them"
    license = "Apache-2.0"
    package_type = "library"
    settings = "os", "compiler", "build_type", "arch"
    options: ClassVar = {"shared": [True, False], "fPIC": [True, False], "engine": ["on", "off", "auto"]}
    default_options: ClassVar = {"shared": False, "fPIC": True, "engine": "auto"}
    exports_sources = "CMakeLists.txt", "cmake/*", "include/*", "src/*"

    def set_version(self):
        listed = (Path(self.recipe_folder) / "CMakeLists.txt").read_text(encoding="utf-8")
        self.version = re.search(r"project\(packnet VERSION (\S+)", listed).group(1)

    def configure(self):
        if self.options.shared:
            self.options.rm_safe("fPIC")

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("packnet: expected Linux, got " + str(self.settings.os))
        check_min_cppstd(self, 17)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["PACKNET_TESTS"] = False
        toolchain.cache_variables["PACKNET_ENGINE"] = str(self.options.engine).upper()
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):  # the installed config knows what the engine was built with, and where that was
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/packnet"]
