/// @file
/// Plans for the stand-in of TensorRT (stub/), made of the golden pack, with their sidecars.
#pragma once

#include <filesystem>
#include <functional>

#include "packnet/pack.h"
#include "sidecar.h"
#include "stub/toy_plan.h"

struct ToyOptions {
    packnet::Switch mode = packnet::Switch::refit;
    packnet::Precision precision = packnet::Precision::fp32;
    packnet::BatchRange batch{1, 2, 8};
    int classes = 5;                       // logits
    int built_from = 3;                    // tasks of the pack; the others were trained later
    int task = 1;                          // of a plan of one task
    std::function<void(ToyPlan&)> change;  // of the plan, after its sidecar was written
};

/// Write `plan` and its sidecar: the network of the golden pack, whose logits an engine of it gives.
void write_toy_plan(const std::filesystem::path& plan, const packnet::Pack& pack, const ToyOptions& options = {});
