// The product of `matmul.h` on the matrix unit (AMX) that Intel's processors have since Sapphire Rapids: one instruction is
// sixteen rows by sixteen outputs by sixteen pairs of inputs.
//
// It sums in another order than vectors do. So whether it is used follows from the processor and the matrix alone: a
// row's result must not depend on how many rows are beside it.
#pragma once

#include <algorithm>
#include <cstdint>

constexpr int PANEL = 64;  // outputs
constexpr int TILE_ROWS = 16, TILE_PAIRS = 16, QUARTER = PANEL / 4;

#if defined(__AMX_BF16__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

// Whether the kernel lets this process use the unit: it must be asked, since threads then take 8 KB more to switch.
inline bool has_tiles() {
    constexpr int ASK = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool is_granted = syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
    return is_granted;
}

// GCC's tile loads do not say that they read memory: what was stored before must have left the registers.
inline void written() { __asm__ volatile("" ::: "memory"); }

// The shape that this thread's tiles have: 0 to 3 are sums, 4 inputs, 5 weights. Given back when a call into the library
// ends, since others use the unit, too.
class Tiles {
   public:
    Tiles() = default;
    Tiles(const Tiles&) = delete;
    ~Tiles() {
        if (shaped) _tile_release();
        shaped = 0;
    }

    static void shape(int rows) {
        if (shaped == rows) return;
        shaped = rows;
        const auto r = (uint8_t)rows;
        const struct {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64};
            uint8_t rows[16];
        } shapes{.rows = {r, r, r, r, r, TILE_PAIRS}};
        written();
        _tile_loadconfig(&shapes);
    }

   private:
    static inline thread_local int shaped = 0;
};

// One panel for up to TILE_ROWS rows, as many quarters of it as hold `outputs`.
inline void multiply_tiles(int rows, const uint32_t* x, int64_t x_stride, const uint32_t* weights, int pairs, int outputs,
                           float* out, int64_t out_stride) {
    constexpr int64_t BYTES = 4 * PANEL;
    const int64_t x_bytes = 4 * x_stride, out_bytes = 4 * out_stride;
    Tiles::shape(rows);
    written();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < pairs; k += TILE_PAIRS, weights += TILE_PAIRS * PANEL) {
        _tile_loadd(4, x + k, x_bytes);
        _tile_loadd(5, weights, BYTES);
        _tile_dpbf16ps(0, 4, 5);
        if (outputs <= QUARTER) continue;
        _tile_loadd(5, weights + QUARTER, BYTES);
        _tile_dpbf16ps(1, 4, 5);
        if (outputs <= 2 * QUARTER) continue;
        _tile_loadd(5, weights + 2 * QUARTER, BYTES);
        _tile_dpbf16ps(2, 4, 5);
        if (outputs <= 3 * QUARTER) continue;
        _tile_loadd(5, weights + 3 * QUARTER, BYTES);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, out, out_bytes);
    _tile_stored(1, out + QUARTER, out_bytes);
    _tile_stored(2, out + 2 * QUARTER, out_bytes);
    _tile_stored(3, out + 3 * QUARTER, out_bytes);
}
#else
inline bool has_tiles() { return false; }

struct Tiles {
    ~Tiles() {}
};

inline void multiply_tiles(int, const uint32_t*, int64_t, const uint32_t*, int, int, float*, int64_t) {}
#endif
