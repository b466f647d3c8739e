// Where no CUDA compiler was at hand: the bank stays on the host.

#include "switcher.h"

namespace packnet::detail {

std::unique_ptr<Switcher> make_switcher(EngineBank bank, packnet_bank where, const Stream&) {
    if (where == PACKNET_BANK_DEVICE) {
        throw EnvironmentFault({}, "bank (the option bank)", "kernels that mask it on the GPU", "none in this library",
                               "build it with a CUDA compiler, or leave the bank on the host");
    }
    return make_host_switcher(std::move(bank));
}

}  // namespace packnet::detail
