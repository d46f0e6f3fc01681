// The input of a forward pass, and the call; see `forward.cpp`.
#pragma once

#include <cstdint>

extern "C" {

struct Layer {
    const float *attention_norm, *feedforward_norm;
    const uint32_t *attention_into, *attention_out, *feedforward_into, *feedforward_out;
};

struct Model {
    int64_t width, layers, heads, gated, vocabulary;
    const Layer* layer;
    const float *tokens, *bars, *steps, *slots, *previous, *norm;
    const float *cosine, *sine;  // [positions, head width / 2]
    const uint32_t* head;
};

// A token, its coordinates, and the KV cache of its prefix and of its own row. A cache holds for each layer the keys of
// every head, then the values of every head, `span` words apart.
struct Token {
    int64_t token, bar, step, slot, previous;
    const float* controls;          // [width], the sum of its control embeddings; null where there is none
    int64_t position, logits_row;  // logits_row: where its logits are written, -1 for nowhere
    uint32_t *prefix, *own;
    int64_t prefix_span, own_span;
    int64_t prefix_length, own_position, own_length;  // own_length: how many tokens of its own row it attends to
};

// The whole forward pass, from tokens to logits [rows, stride].
void hx_forward(const Model* model, const Token* tokens, int64_t count, float* x, float* out, int64_t stride);
}
