// The sampling parameters of a row, and the call that samples; see `sampling.cpp`.
#pragma once

#include <cstdint>

extern "C" {

struct SamplingSettings {
    double uniform, temperature, top_p, copy_strength;
    int64_t top_k;
};

// Sample one token for each of `count` rows from logits [count, stride], and advance the row's grammar and pointers by
// it. Copy pointers (null for none) change the logits in place.
void hx_sample(void** grammars, void** pointers, const double* gate, int64_t count, float* logits, int64_t stride,
               const SamplingSettings* settings, int64_t* tokens, double* log_probabilities);
}
