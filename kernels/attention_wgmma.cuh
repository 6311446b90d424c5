// What the attention kernels for sm_90a are made of: tiles in swizzled shared memory, wgmma, barriers, asynchronous copies.
//
// A tile is rows of 256 bf16, as four panels of 64 columns: row r of a panel is 128 bytes, and its eight chunks of 16 bytes lie at their
// index XOR r % 8, which is the 128-byte swizzle of wgmma. Panels begin at multiples of 1024 bytes.
#pragma once
#include "block.cuh"

constexpr int D = 256;            // the head dim
constexpr int TILE = 64 * D * 2;  // bytes of a tile of 64 rows
constexpr float LOG2_E = 1.4426950408889634f;

__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

// Byte of chunk `chunk` (of 32) of a row of a tile of `rows` rows.
__device__ __forceinline__ uint32_t chunk_offset(int rows, int row, int chunk) {
    return chunk / 8 * rows * 128 + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

// The value, of which the compiler knows nothing: it makes what depends on it here instead of keeping it in registers from outside a loop.
__device__ __forceinline__ uint32_t fresh(uint32_t value) {
    asm volatile("" : "+r"(value));
    return value;
}

// Descriptor of a tile as wgmma's operand: swizzled by 128 bytes, groups of 8 rows 1024 bytes apart, panels `panel` bytes apart.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, uint32_t panel) {
    return (uint64_t)(address >> 4) | (uint64_t)(panel >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
// The same, `bytes` further: an addition of 32 bits, since the address does not leave its field.
__device__ __forceinline__ uint64_t advance(uint64_t descriptor, int bytes) {
    return descriptor & 0xffffffff00000000 | (uint32_t)descriptor + (uint32_t)(bytes >> 4);
}

#define SUMS_8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_16(d, i) SUMS_8(d, i), SUMS_8(d, i + 8)
#define SUMS_32(d, i) SUMS_16(d, i), SUMS_16(d, i + 16)

// d [64, 64] = a b^T, or += where `add`: a [64, 16] and b [64, 16] in shared memory.
__device__ __forceinline__ void wgmma(float (&d)[32], uint64_t a, uint64_t b, int add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, p, 1, 1, 0, 0;\n}\n"
        : SUMS_32(d, 0)
        : "l"(a), "l"(b), "r"(add));
}

// d [64, 80] = a b^T, or += where `add`: a [64, 16] and b [80, 16] in shared memory.
__device__ __forceinline__ void wgmma(float (&d)[40], uint64_t a, uint64_t b, int add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %42, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39}, "
        "%40, %41, p, 1, 1, 0, 0;\n}\n"
        : SUMS_32(d, 0), SUMS_8(d, 32)
        : "l"(a), "l"(b), "r"(add));
}

// d [64, 256] += a b: a [64, 16] in registers, b [16, 256] in shared memory with its columns contiguous.
__device__ __forceinline__ void wgmma(float (&d)[128], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, "
        "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, "
        "%120, %121, %122, %123, %124, %125, %126, %127}, "
        "{%128, %129, %130, %131}, %132, 1, 1, 1, 1;\n"
        : SUMS_32(d, 0), SUMS_32(d, 32), SUMS_32(d, 64), SUMS_32(d, 96)
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

// Orders register writes before the wgmma that follow.
__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
// Waits until at most PENDING groups are under way.
template <int PENDING> __device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(PENDING) : "memory"); }

// Keeps the compiler from moving uses of the sums across a wait or a begin.
template <int R> __device__ __forceinline__ void pin(float (&d)[R]) {
#pragma unroll
    for (int i = 0; i < R; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// d [64, columns] = a b^T over 256: a is a tile of 64 rows, b one of `columns` rows.
template <int COLUMNS> __device__ __forceinline__ void multiply_transposed(float (&d)[COLUMNS / 2], uint32_t a, uint32_t b) {
    const uint64_t desc_a = descriptor(fresh(a), 64 * 128), desc_b = descriptor(fresh(b), COLUMNS * 128);
#pragma unroll
    for (int step = 0; step < 16; step++)
        wgmma(d, advance(desc_a, step / 4 * 64 * 128 + step % 4 * 32), advance(desc_b, step / 4 * COLUMNS * 128 + step % 4 * 32), step > 0);
}

// d [64, 256] += a b: a [64, rows] in registers, b a tile of `rows` rows.
template <int ROWS> __device__ __forceinline__ void multiply_add(float (&d)[128], const uint32_t (&a)[ROWS / 4], uint32_t b) {
    const uint64_t desc = descriptor(fresh(b), ROWS * 128);
#pragma unroll
    for (int step = 0; step < ROWS / 16; step++)
        wgmma(d, a[4 * step], a[4 * step + 1], a[4 * step + 2], a[4 * step + 3], advance(desc, step * 16 * 128));
}

// 2^x by the special function unit: 2 ulp, results below 2^-126 are 0.
__device__ __forceinline__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The warpgroup of this thread, known to be the same in all lanes of a warp.
__device__ __forceinline__ int warpgroup() { return __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0); }

// Two floats as bf16, the first in the low half.
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

template <int R> __device__ __forceinline__ void pack_all(uint32_t (&words)[R / 2], const float (&values)[R]) {
#pragma unroll
    for (int i = 0; i < R / 2; i++) words[i] = pack(values[2 * i], values[2 * i + 1]);
}

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ bool barrier_try(uint32_t barrier, int parity) {
    uint32_t done;
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done;
}
__device__ __forceinline__ void barrier_wait(uint32_t barrier, int parity) {
    while (!barrier_try(barrier, parity)) {
    }
}
// One arrival a warp, after all its lanes came here.
__device__ __forceinline__ void warp_arrive(uint32_t barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(barrier);
}
// Joins the 128 threads of a warpgroup; `id` is not 0, which __syncthreads has.
__device__ __forceinline__ void group_sync(int id) { asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory"); }

// Turns of two warpgroups: one waits until the other passes the turn `id` on.
__device__ __forceinline__ void turn_wait(int id) { asm volatile("bar.sync %0, 256;" ::"r"(id) : "memory"); }
__device__ __forceinline__ void turn_pass(int id) { asm volatile("bar.arrive %0, 256;" ::"r"(id) : "memory"); }

// 16 bytes, zeros unless `inside`.
__device__ __forceinline__ void copy_16(uint32_t to, const void* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_4(uint32_t to, const void* from, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(inside ? 4 : 0) : "memory");
}
template <int REGISTERS> __device__ __forceinline__ void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS)); }
template <int REGISTERS> __device__ __forceinline__ void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS)); }

// Rows [first, first + ROWS) of x [.., 256] with `stride` into a tile, zeros from `end` on, by THREADS threads of which this is `thread`.
template <int ROWS, int THREADS>
__device__ __forceinline__ void copy_rows(uint32_t tile, const bf16* x, int64_t stride, int first, int end, int thread) {
    constexpr int STEP = THREADS / 32;  // divides 8, so the rows of a thread differ in the upper bits of row % 8 alone
    const int row = thread / 32, chunk = thread % 32;
    const bf16* from = x + (first + row) * stride + chunk * 8;
    const uint32_t to = tile + chunk / 8 * ROWS * 128 + row * 128, mixed = (chunk % 8 ^ row) * 16;
    const int left = end - first - row;
#pragma unroll
    for (int i = 0; i < ROWS; i += STEP) {
        copy_16(to + i * 128 + (mixed ^ i % 8 * 16), from, i < left);
        from += STEP * stride;
    }
}
// Arrives at the barrier when this thread's copies so far lie in shared memory.
__device__ __forceinline__ void copy_arrive(uint32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
// Waits for copies of other threads and makes them visible to wgmma.
__device__ __forceinline__ void copy_wait(uint32_t barrier, int parity) {
    barrier_wait(barrier, parity);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Where the sums of a thread lie in their [64, columns]: value i at row `sum_row() + 8 * (i / 2 % 2)`, column `sum_column() + i / 4 * 8 + i % 2`.
__device__ __forceinline__ int sum_row() { return threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4; }
__device__ __forceinline__ int sum_column() { return threadIdx.x % 4 * 2; }

// Writes the 64 rows of a warpgroup times their factors by way of `tile`, a tile of its own, to y with `stride`: rows below `rows`.
__device__ __forceinline__ void store_sums(const float (&sum)[128], float factor_0, float factor_8, uint32_t tile, bf16* y, int64_t stride,
                                           int rows, int sync) {
    const int row = sum_row();
#pragma unroll
    for (int i = 0; i < 128; i += 4) {
        const uint32_t at = tile + chunk_offset(64, row, i / 4) + sum_column() * 2;  // row + 8 has the same swizzle
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(pack(sum[i] * factor_0, sum[i + 1] * factor_0)) : "memory");
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(at + 1024), "r"(pack(sum[i + 2] * factor_8, sum[i + 3] * factor_8)) : "memory");
    }
    group_sync(sync);
    const int chunk = threadIdx.x % 32;
    for (int r = threadIdx.x % 128 / 32; r < 64 && r < rows; r += 4) {
        uint4 words;
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                     : "r"(tile + chunk_offset(64, r, chunk)));
        *reinterpret_cast<uint4*>(y + r * stride + chunk * 8) = words;
    }
}

// The document and the first row of a block.
struct Work {
    int start, end, first;
    __device__ __forceinline__ Work(const uint32_t* table, int block)
        : start(table[3 * block]), end(table[3 * block + 1]), first(table[3 * block + 2]) {}
    // Key tiles that the 64 queries from `query` on see.
    __device__ __forceinline__ int key_tiles(int query, int keys) const {
        const int last = query + 64 < end ? query + 64 : end;
        return (last - start + keys - 1) / keys;
    }
};

extern __shared__ __align__(1024) unsigned char memory[];

// The code for Hopper stands between `#if` and `#else`, its kernels call it by this; other machine code only has their names.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ONLY_HOPPER(call) call
#else
#define ONLY_HOPPER(call) __trap()
#endif
