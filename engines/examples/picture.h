// Image files as pictures that packnet::centre takes.
#pragma once

#include <packnet/preprocess.h>

#include <memory>
#include <string>

/// A decoded image file, RGB: whatever stb_image reads (JPEG, PNG, BMP, ...).
class PictureFile {
public:
    /// @throws packnet::Error  not there, or no image.
    explicit PictureFile(const std::string& path);

    packnet::Picture picture() const { return {pixels_.get(), width_, height_, 3, orientation_}; }

private:
    int width_ = 0, height_ = 0, orientation_ = 1;
    std::unique_ptr<std::uint8_t, void (*)(void*)> pixels_;
};
