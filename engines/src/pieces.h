/// @file
/// Weights of all parameters as pieces of work that threads take, and checks of where they are to go.
#pragma once

#include <string>
#include <vector>

#include "chain.h"
#include "packnet/error.h"

namespace packnet::detail {

inline void check_task(int task, int least, int most) {
    if (task < least || task > most) {
        throw Error({}, "task index", std::to_string(least) + ".." + std::to_string(most), std::to_string(task));
    }
}

inline void check_outputs(const std::vector<float*>& out, const std::vector<Parameter>& parameters) {
    if (out.size() != parameters.size()) {
        throw Error({}, "outputs", std::to_string(parameters.size()) + ", one per parameter",
                    std::to_string(out.size()));
    }
}

/// One chunk of one parameter.
struct Piece {
    std::size_t parameter, chunk;
};

inline std::vector<Piece> pieces_of(const std::vector<Parameter>& parameters) {
    std::vector<Piece> pieces;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        for (std::size_t chunk = 0; chunk < chunks_of(parameters[i]); ++chunk) pieces.push_back({i, chunk});
    }
    return pieces;
}

}  // namespace packnet::detail
