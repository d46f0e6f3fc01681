// Products of a few rows with a matrix of bf16 weights, which is read once, in memory order.
//
// A packed matrix [outputs, inputs] is stored as [outputs / 64][inputs / 2][64][2], padded with zeros: a word holds one
// output's weights for two inputs. The KV cache has the same layout, so that attention uses the same product.
#pragma once

#include "simd.h"
#include "amx.h"

constexpr int TILE = 6;  // rows a tile: 24 sums and 4 weights fill the 32 registers of AVX-512

template <int ROWS>
inline void tile(const uint32_t* x, int64_t x_stride, const uint32_t* weights, int pairs, float* out,
                 int64_t out_stride) {
    constexpr int VECTORS = PANEL / LANES;
#if defined(__AVX512BF16__)
    __m512 sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = _mm512_setzero_ps();
    for (int k = 0; k < pairs; k++, weights += PANEL) {
        __m512bh column[VECTORS];
        for (int v = 0; v < VECTORS; v++) column[v] = (__m512bh)_mm512_loadu_si512(weights + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            __m512bh input = (__m512bh)_mm512_set1_epi32((int)x[r * x_stride + k]);
            for (int v = 0; v < VECTORS; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], input, column[v]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(out + r * out_stride + v * LANES, sums[r][v]);
#else
    Lanes sums[ROWS][VECTORS] = {};
    for (int k = 0; k < pairs; k++, weights += PANEL) {
        for (int v = 0; v < VECTORS; v++) {
            Words column;
            std::memcpy(&column, weights + v * LANES, sizeof column);
            Lanes first = (Lanes)(column << 16), second = (Lanes)(column & 0xffff0000u);
            for (int r = 0; r < ROWS; r++) {
                uint32_t pair = x[r * x_stride + k], low = pair << 16, high = pair & 0xffff0000u;
                float a, b;
                std::memcpy(&a, &low, sizeof a);
                std::memcpy(&b, &high, sizeof b);
                sums[r][v] += first * a + second * b;
            }
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) store(out + r * out_stride + v * LANES, sums[r][v]);
#endif
}

// out[r] = weights * x[r] for `rows` rows of `pairs` input pairs each, in panels `panel_stride` words apart. The last
// panel may write undefined values past `outputs`.
inline void multiply(int rows, const uint32_t* x, int64_t x_stride, const uint32_t* weights, int pairs, int outputs,
                     int64_t panel_stride, float* out, int64_t out_stride) {
    if (has_amx() && pairs % TILE_PAIRS == 0) {
        for (; outputs > 0; outputs -= PANEL, weights += panel_stride, out += PANEL)
            for (int r = 0; r < rows; r += TILE_ROWS)
                multiply_amx(std::min(rows - r, TILE_ROWS), x + r * x_stride, x_stride, weights, pairs, outputs,
                               out + r * out_stride, out_stride);
        return;
    }
    for (; outputs > 0; outputs -= PANEL, weights += panel_stride, out += PANEL) {
        int r = 0;
        for (; r + TILE <= rows; r += TILE)
            tile<TILE>(x + r * x_stride, x_stride, weights, pairs, out + r * out_stride, out_stride);
        const uint32_t* x_rest = x + r * x_stride;
        float* out_rest = out + r * out_stride;
        switch (rows - r) {
            case 1: tile<1>(x_rest, x_stride, weights, pairs, out_rest, out_stride); break;
            case 2: tile<2>(x_rest, x_stride, weights, pairs, out_rest, out_stride); break;
            case 3: tile<3>(x_rest, x_stride, weights, pairs, out_rest, out_stride); break;
            case 4: tile<4>(x_rest, x_stride, weights, pairs, out_rest, out_stride); break;
            case 5: tile<5>(x_rest, x_stride, weights, pairs, out_rest, out_stride); break;
            default: break;
        }
    }
}
