/// @file
/// A loop over items, shared among threads that live as long as the loop.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace packnet::detail {

/// Call `work(i)` for every i in 0..items-1, in any order; rethrows the first exception.
/// @param threads  at most how many work, the caller included; 0 for one per processor.
template <typename Work>
void parallel_for(std::size_t items, unsigned threads, const Work& work) {
    if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::exception_ptr failure;
    const auto run = [&] {
        try {
            for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;) work(i);
        } catch (...) {
            next = items;
            const std::lock_guard<std::mutex> lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    try {
        for (std::size_t i = 1; i < std::min<std::size_t>(threads, items); ++i) others.emplace_back(run);
    } catch (const std::exception&) {
        // No more threads, or no memory for one: those there are do it all.
    }
    run();
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace packnet::detail
