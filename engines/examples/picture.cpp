#include "picture.h"

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

PictureFile::PictureFile(const std::string& path) : pixels_(nullptr, stbi_image_free) {
    int channels = 0;
    pixels_.reset(stbi_load(path.c_str(), &width_, &height_, &channels, 3));
    if (!pixels_) throw packnet::Error(path, "image", "one that can be read", stbi_failure_reason());
}
