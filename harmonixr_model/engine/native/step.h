// What a step of the model is given, and the call; see `forward.cpp`.
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

// Keys and values of one sequence: for each layer, keys of every head, then values of every head, `span` words apart.
struct Token {
    int64_t token, bar, step, slot, previous;
    const float* asked;  // [width], what is asked of this token; null where nothing is
    int64_t position, place;  // place: the row of the logits to write, -1 for none
    uint32_t *prefix, *own;
    int64_t prefix_span, own_span;
    int64_t prefix_length, own_position, own_length;  // own_length: how many tokens of its own row it sees
};

// Everything between tokens and logits, [places, stride].
void hx_step(const Model* model, const Token* tokens, int64_t count, float* x, float* out, int64_t stride);
}
