// The product of `matmul.h` on AMX, the matrix unit of Intel's processors since Sapphire Rapids: one instruction
// multiplies sixteen rows by sixteen outputs by sixteen pairs of inputs.
//
// AMX sums in another order than vectors do. Its use therefore depends on the processor and the matrix alone: a row's
// result must not depend on the number of rows.
#pragma once

#include <algorithm>
#include <cstdint>

constexpr int PANEL = 64;  // outputs
constexpr int TILE_ROWS = 16, TILE_PAIRS = 16, QUARTER = PANEL / 4;

#if defined(__AMX_BF16__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

// Whether the kernel lets this process use AMX. A process must request it, because it adds 8 KB to a thread's state.
inline bool has_amx() {
    constexpr int REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool is_granted = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
    return is_granted;
}

// GCC does not know that tile loads read memory: earlier stores must have left the registers.
inline void memory_barrier() { __asm__ volatile("" ::: "memory"); }

// The shape of this thread's tiles: 0 to 3 are sums, 4 is inputs, 5 is weights. Released when a call into the library
// ends, because other libraries use AMX too.
class AmxTiles {
   public:
    AmxTiles() = default;
    AmxTiles(const AmxTiles&) = delete;
    ~AmxTiles() {
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
        memory_barrier();
        _tile_loadconfig(&shapes);
    }

   private:
    static inline thread_local int shaped = 0;
};

// One panel for up to TILE_ROWS rows: as many of its quarters as `outputs` need.
inline void multiply_amx(int rows, const uint32_t* x, int64_t x_stride, const uint32_t* weights, int pairs, int outputs,
                           float* out, int64_t out_stride) {
    constexpr int64_t BYTES = 4 * PANEL;
    const int64_t x_bytes = 4 * x_stride, out_bytes = 4 * out_stride;
    AmxTiles::shape(rows);
    memory_barrier();
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
inline bool has_amx() { return false; }

struct AmxTiles {
    ~AmxTiles() {}
};

inline void multiply_amx(int, const uint32_t*, int64_t, const uint32_t*, int, int, float*, int64_t) {}
#endif
