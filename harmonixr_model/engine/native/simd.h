// Vectors of sixteen floats, portable to every processor of GCC and Clang, and rounding to bf16.
// Sums have one fixed order, so that a row's result never depends on the other rows of the batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

constexpr int LANES = 16;
using Lanes = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Signed = int32_t __attribute__((vector_size(64)));

inline Lanes load(const float* from) {
    Lanes lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

inline void store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

inline float sum(Lanes lanes) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += lanes[i];
    return total;
}

inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }

// e^x by range reduction and the polynomial of Cephes expf; relative error under 2e-7, 0 below -87.
inline Lanes exponential(Lanes x) {
    Lanes low = Lanes{} - 87.0f;
    Lanes bounded = larger(x, low);
    Lanes shifted = bounded * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
    Lanes whole = shifted - 12582912.0f;
    Lanes rest = bounded - whole * 0.693359375f;
    rest = rest + whole * 2.12194440e-4f;
    Lanes power = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    Signed exponent = (__builtin_convertvector(whole, Signed) + 127) << 23;
    Lanes scaled = power * (Lanes)exponent;
    return x < low ? Lanes{} : scaled;
}

// Round sixteen floats to the nearest bf16, ties to even.
inline void round_lanes(Lanes lanes, uint16_t* to) {
#if defined(__AVX512BF16__)
    __m256bh halves = _mm512_cvtneps_pbh((__m512)lanes);
#else
    Words bits = (Words)lanes;
    Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    using Halves = uint16_t __attribute__((vector_size(32)));
    Halves halves = __builtin_convertvector(rounded, Halves);
#endif
    std::memcpy(to, &halves, sizeof halves);
}

// Round `count` floats, a multiple of 16.
inline void round_row(const float* from, uint16_t* to, int count) {
    for (int i = 0; i < count; i += LANES) round_lanes(load(from + i), to + i);
}
