/// @file
/// Ordering a pack's weights by owner, straight from its deltas, parameter by parameter, in the engine's type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "chain.h"
#include "layout.h"
#include "ordered_bank.h"
#include "sidecar.h"

namespace packnet::detail {

/// A parameter of the pack that is a weight of the plan, of the same size.
struct BankedWeight {
    std::size_t parameter;         // number in the chain
    const SwitchedWeight* weight;  // outlives all this
    std::size_t start;             // its place in the layout
};

class BankOrdering {
public:
    /// @param weights  all banked ones, as they follow each other in the layout.
    /// @throws Error   more weights than the bank's counts can tell.
    BankOrdering(const Chain& chain, const Layout& layout, std::vector<BankedWeight> weights);

    /// Decode weight `number`, and put what is owned of it where it belongs.
    /// @param owners   becomes its owner map, uint8 [size].
    /// @param threads  how many to work with; 0 for one per processor.
    /// @throws Error   a value does not fit the type; a file has changed since it was checked.
    void add(std::size_t number, std::uint8_t* owners, unsigned threads);

    /// The bank, once all weights were added; the object is spent.
    OrderedBank take();

private:
    void order_chunk(const BankedWeight& banked, std::size_t chunk, const std::vector<std::size_t>& first,
                     std::uint8_t* owners);

    const Chain& chain_;
    const std::size_t item_;
    const std::vector<BankedWeight> weights_;
    std::vector<std::vector<std::size_t>> first_;  // by weight, by task: where in `values` its own begin
    OrderedBank bank_;
};

}  // namespace packnet::detail
