// CUDA's threads on the host, for kernels that wait for each other: every thread of a block is a fiber that runs until
// it comes to __syncthreads, where the next one takes over. One block runs after the other, on one thread of the host.

#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define __device__
#define __global__
#define __shared__ static  // of one block at a time, and as on a GPU not cleared for the next

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct Index {
    unsigned x, y;
};

static Index blockIdx, threadIdx;

static int __popc(unsigned bits) { return __builtin_popcount(bits); }

class Block {
public:
    /// Run `kernel` in every thread of one block.
    static void run(unsigned threads, const std::function<void()>& kernel) {
        static std::vector<Block> blocks(1);
        blocks[0].all(threads, kernel);
    }

    static void wait() {
        if (!_setjmp(running_->fibers_[threadIdx.x].place)) _longjmp(running_->back_, 1);
    }

private:
    struct Fiber {
        ucontext_t start;  // swapping contexts asks the kernel for the signal mask each time, jumping does not
        jmp_buf place;
        std::vector<char> stack = std::vector<char>(32 << 10);
        bool started, done;
    };

    void all(unsigned threads, const std::function<void()>& kernel) {
        fibers_.resize(threads);
        running_ = this;
        kernel_ = &kernel;
        for (Fiber& fiber : fibers_) fiber.started = fiber.done = false;
        for (live_ = threads; live_;) {
            for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {
                if (!fibers_[threadIdx.x].done) go_on(fibers_[threadIdx.x]);
            }
        }
    }

    void go_on(Fiber& fiber) {
        if (_setjmp(back_)) return;
        if (fiber.started) _longjmp(fiber.place, 1);
        fiber.started = true;
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.data();
        fiber.start.uc_stack.ss_size = fiber.stack.size();
        makecontext(&fiber.start, enter, 0);
        setcontext(&fiber.start);
    }

    static void enter() {
        (*running_->kernel_)();
        running_->fibers_[threadIdx.x].done = true;
        --running_->live_;
        _longjmp(running_->back_, 1);
    }

    static inline Block* running_ = nullptr;
    std::vector<Fiber> fibers_;
    jmp_buf back_;
    unsigned live_ = 0;
    const std::function<void()>* kernel_ = nullptr;
};

static void __syncthreads() { Block::wait(); }

template <typename Work>
static void launch(unsigned x, unsigned y, unsigned threads, Work work) {
    for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x) Block::run(threads, work);
}
