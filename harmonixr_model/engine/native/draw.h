// How a row draws, and the call; see `grammar.cpp`.
#pragma once

#include <cstdint>

extern "C" {

struct Settings {
    double uniform, temperature, top_p, copy_strength;
    int64_t top_k;
};

// Draw one token for each of `count` rows from logits [count, stride], which the pointers of a row (null: none) change,
// and take it.
void hx_choose(void** grammars, void** pointers, const double* gate, int64_t count, float* logits, int64_t stride,
               const Settings* settings, int64_t* tokens, double* log_probabilities);
}
