#include "picture.h"

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#include <fstream>
#include <sstream>

PictureFile::PictureFile(const std::string& path) : pixels_(nullptr, stbi_image_free) {
    std::ostringstream bytes;
    bytes << std::ifstream(path, std::ios::binary).rdbuf();
    const std::string file = bytes.str();
    const auto* content = reinterpret_cast<const stbi_uc*>(file.data());
    int channels = 0;
    pixels_.reset(stbi_load_from_memory(content, static_cast<int>(file.size()), &width_, &height_, &channels, 3));
    orientation_ = packnet::exif_orientation(file.data(), file.size());
    if (!pixels_) throw packnet::Error(path, "image", "one that can be read", stbi_failure_reason());
}
