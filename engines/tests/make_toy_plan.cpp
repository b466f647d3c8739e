// packnet-toy-plan PACK PLAN SWITCH: writes a plan for the stand-in of TensorRT, and its sidecar, of the golden pack or
// a copy of it.

#include <cstdio>
#include <cstring>

#include "toy_plans.h"

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    ToyOptions options;
    options.task = 3;
    for (packnet::Switch mode :
         {packnet::Switch::refit, packnet::Switch::bind, packnet::Switch::selector, packnet::Switch::none}) {
        if (std::strcmp(packnet::name_of(mode), argv[3]) == 0) options.mode = mode;
    }
    write_toy_plan(argv[2], packnet::open_pack(argv[1]), options);
}
