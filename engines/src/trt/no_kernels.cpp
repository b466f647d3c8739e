// Where no CUDA compiler was at hand.

#include "kernels.h"

namespace packnet::detail {

bool has_kernels() noexcept { return false; }

void launch(const SwitchLaunch&, const Stream&) {
    throw EnvironmentFault({}, "switching weights on the GPU", "kernels", "none in this library");
}

}  // namespace packnet::detail
