// The forward pass of `infill.model.InfillTransformer`, with weights and KV cache in bf16 and sums in fp32.
//
// Every token attends to a prefix, which many rows may share, and to earlier tokens of its own row. In a prefill the
// prefix is the own row, and every token attends to all of it.

#include <cmath>
#include <vector>

#include "matmul.h"
#include "model.h"

namespace {

constexpr int CHUNK = 48;  // tokens whose activations fit the second-level cache

constexpr int ATTENTION_BLOCK = 2 * TILE_PAIRS;  // attention is padded to so many tokens, of weight 0

int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

int value_pairs(int64_t tokens) { return (int)(has_amx() ? padded(tokens, ATTENTION_BLOCK) : padded(tokens, 2)) / 2; }

void normalise(const float* x, const float* weight, uint16_t* out, int width) {
    Lanes squares = {};
    for (int i = 0; i < width; i += LANES) squares += load(x + i) * load(x + i);
    float scale = 1.0f / std::sqrt(sum(squares) / width + 1e-6f);
    alignas(64) float scaled[LANES];
    for (int i = 0; i < width; i += LANES) {
        store(scaled, load(x + i) * scale * load(weight + i));
        round_row(scaled, out + i, LANES);
    }
}

void rotate(float* x, const float* cosine, const float* sine, int half) {
    for (int i = 0; i < half; i++) {
        float left = x[i], right = x[half + i];
        x[i] = left * cosine[i] - right * sine[i];
        x[half + i] = right * cosine[i] + left * sine[i];
    }
}

// The activations of one forward pass.
struct Pass {
    const Model& model;
    const Token* tokens;
    int count;
    float* x;  // [count, width], the residual stream
    int width = (int)model.width, heads = (int)model.heads, head_width = width / heads, gated = (int)model.gated;
    int head_padded = (int)padded(head_width, PANEL);
    int64_t buffer_stride = padded(std::max(3 * width, 2 * gated) + LANES, PANEL);  // heads are rounded by whole lanes
    std::vector<float> buffer = std::vector<float>(std::min(count, CHUNK) * buffer_stride);
    std::vector<uint16_t> rounded = std::vector<uint16_t>((size_t)std::min(count, CHUNK) * std::max(width, gated));
    std::vector<uint16_t> queries = std::vector<uint16_t>((size_t)count * width);
    std::vector<float> scores = {};
    std::vector<uint16_t> weights = {};

    uint32_t* block(uint32_t* memory, int64_t span, int layer, int is_value, int head) const {
        return memory + ((int64_t)(layer * 2 + is_value) * heads + head) * span;
    }

    void project(const uint32_t* matrix, const uint16_t* from, int rows, int inputs, int outputs, float* out,
                 int64_t out_stride) const {
        multiply(rows, (const uint32_t*)from, inputs / 2, matrix, inputs / 2, outputs, (int64_t)inputs / 2 * PANEL,
                 out, out_stride);
    }

    void run(int layer) {
        write_cache(layer);
        for (int start = 0; start < count; start += CHUNK) finish_chunk(layer, start, std::min(CHUNK, count - start));
    }

    void write_cache(int layer) {
        for (int start = 0; start < count; start += CHUNK)
            write_cache_chunk(layer, start, std::min(CHUNK, count - start));
    }

    // Write the queries of a chunk of tokens to `queries`, and their keys and values to the KV cache.
    void write_cache_chunk(int layer, int start, int rows) {
        const Layer& l = model.layer[layer];
        for (int r = 0; r < rows; r++)
            normalise(x + (int64_t)(start + r) * width, l.attention_norm, &rounded[(size_t)r * width], width);
        project(l.attention_into, rounded.data(), rows, width, 3 * width, buffer.data(), buffer_stride);
        const int half = head_width / 2;
        const float scale = 1.0f / std::sqrt((float)head_width);
        for (int r = 0; r < rows; r++) {
            const Token& t = tokens[start + r];
            const float *cosine = model.cosine + t.position * half, *sine = model.sine + t.position * half;
            float* q = &buffer[r * buffer_stride];
            for (int head = 0; head < heads; head++) {
                rotate(q + head * head_width, cosine, sine, half);
                rotate(q + width + head * head_width, cosine, sine, half);
            }
            for (int i = 0; i < width; i++) q[i] *= scale;
            round_row(q, &queries[(size_t)(start + r) * width], width);
            for (int head = 0; head < heads; head++)
                write_key_value(t, layer, head, q + width + head * head_width, q + 2 * width + head * head_width);
        }
    }

    void write_key_value(const Token& t, int layer, int head, const float* key, const float* value) const {
        const int64_t at = t.own_position;
        alignas(64) uint16_t k[4 * PANEL], v[4 * PANEL];
        round_row(key, k, (int)padded(head_width, LANES));
        round_row(value, v, (int)padded(head_width, LANES));
        uint32_t* keys = block(t.own, t.own_span, layer, 0, head) + at / PANEL * (head_width / 2) * PANEL + at % PANEL;
        for (int i = 0; i < head_width / 2; i++) std::memcpy(keys + (int64_t)i * PANEL, k + 2 * i, sizeof *keys);
        const int64_t panel = t.own_span / (head_padded / PANEL) * 2;
        auto* values = (uint16_t*)block(t.own, t.own_span, layer, 1, head) + at / 2 * PANEL * 2 + at % 2;
        for (int from = 0; from < head_width; from += PANEL, values += panel)
            for (int i = 0; i < std::min(PANEL, head_width - from); i++) values[2 * i] = v[from + i];
    }

    // Attention, feed-forward and both residual sums of a chunk of tokens.
    void finish_chunk(int layer, int start, int rows) {
        const Layer& l = model.layer[layer];
        for (int first = 0, last; first < rows; first = last) {
            const Token& t = tokens[start + first];
            last = first + 1;
            while (last < rows && tokens[start + last].prefix == t.prefix) last++;
            for (int head = 0; head < heads; head++) attend(layer, head, start + first, last - first, first);
        }
        project(l.attention_out, rounded.data(), rows, width, width, buffer.data(), buffer_stride);
        add(start, rows);
        for (int r = 0; r < rows; r++)
            normalise(x + (int64_t)(start + r) * width, l.feedforward_norm, &rounded[(size_t)r * width], width);
        project(l.feedforward_into, rounded.data(), rows, width, 2 * gated, buffer.data(), buffer_stride);
        for (int r = 0; r < rows; r++) {
            float *gate = &buffer[r * buffer_stride], *value = gate + gated;
            for (int i = 0; i < gated; i += LANES) {
                Lanes g = load(gate + i);
                store(gate + i, g / (1.0f + exponential(-g)) * load(value + i));
            }
            round_row(gate, &rounded[(size_t)r * gated], gated);
        }
        project(l.feedforward_out, rounded.data(), rows, gated, width, buffer.data(), buffer_stride);
        add(start, rows);
    }

    void add(int start, int rows) {
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < width; i++) x[(int64_t)(start + r) * width + i] += buffer[r * buffer_stride + i];
    }

    // Attention of one head for tokens that share a prefix; the result is written to `rounded`, from row `row` on.
    void attend(int layer, int head, int start, int rows, int row) {
        const Token& first = tokens[start];
        const int64_t prefix = first.prefix_length, shared = padded(prefix, PANEL);
        int64_t longest = 0;
        for (int r = 0; r < rows; r++) longest = std::max(longest, tokens[start + r].own_length);
        const int64_t stride = shared + padded(longest, PANEL), attended = shared + padded(longest, ATTENTION_BLOCK);
        scores.resize((size_t)rows * stride);
        weights.resize((size_t)rows * stride);
        const auto* q = (const uint32_t*)&queries[(size_t)start * width + head * head_width];
        const int64_t q_stride = width / 2, p_stride = stride / 2, key_panel = (int64_t)head_width / 2 * PANEL;
        const auto* p = (const uint32_t*)weights.data();
        if (prefix)
            multiply(rows, q, q_stride, block(first.prefix, first.prefix_span, layer, 0, head), head_width / 2,
                     (int)prefix, key_panel, scores.data(), stride);
        for_each_row(start, rows, [&](int r, int run, const Token& t, int64_t length) {
            multiply(run, q + r * q_stride, q_stride, block(t.own, t.own_span, layer, 0, head), head_width / 2,
                     (int)length, key_panel, &scores[r * stride + shared], stride);
        });
        float totals[CHUNK];
        for (int r = 0; r < rows; r++)
            totals[r] = softmax_weights(&scores[r * stride], &weights[r * stride], prefix, shared,
                                        tokens[start + r].own_length, attended);
        const int64_t value_panels = head_padded / PANEL;
        alignas(64) float of_prefix[CHUNK * 4 * PANEL], of_own[CHUNK * 4 * PANEL];
        std::memset(of_prefix, 0, sizeof(float) * rows * head_padded);
        if (prefix)
            multiply(rows, p, p_stride, block(first.prefix, first.prefix_span, layer, 1, head), value_pairs(prefix),
                     head_width, first.prefix_span / value_panels, of_prefix, head_padded);
        for_each_row(start, rows, [&](int r, int run, const Token& t, int64_t length) {
            multiply(run, p + r * p_stride + shared / 2, p_stride, block(t.own, t.own_span, layer, 1, head),
                     value_pairs(length), head_width, t.own_span / value_panels, of_own + r * head_padded,
                     head_padded);
        });
        for (int r = 0; r < rows; r++) {
            float* both = of_prefix + r * head_padded;
            for (int i = 0; i < head_padded; i++) both[i] = (both[i] + of_own[r * head_padded + i]) / totals[r];
            alignas(64) uint16_t out[4 * PANEL];
            round_row(both, out, head_padded);
            std::memcpy(&rounded[(size_t)(row + r) * width + head * head_width], out, sizeof *out * head_width);
        }
    }

    // Call `work` for each run of tokens of one row, with the longest part of the row that one of them attends to.
    template <typename Work>
    void for_each_row(int start, int rows, Work work) const {
        for (int r = 0, next; r < rows; r = next) {
            const Token& t = tokens[start + r];
            int64_t length = t.own_length;
            for (next = r + 1; next < rows && tokens[start + next].own == t.own; next++)
                length = std::max(length, tokens[start + next].own_length);
            work(r, next - r, t, length);
        }
    }

    // Write the softmax's numerators in bf16, 0 where masked; return their sum, the divisor.
    static float softmax_weights(float* score, uint16_t* weight, int64_t prefix, int64_t shared, int64_t own,
                                 int64_t attended) {
        const float masked = -1e30f;
        std::fill(score + prefix, score + shared, masked);
        std::fill(score + shared + own, score + attended, masked);
        Lanes highest = Lanes{} + masked;
        for (int64_t i = 0; i < attended; i += LANES) highest = larger(highest, load(score + i));
        float most = masked;
        for (int i = 0; i < LANES; i++) most = std::max(most, highest[i]);
        Lanes total = {};
        for (int64_t i = 0; i < attended; i += LANES) {
            Lanes lanes = exponential(load(score + i) - most);
            total += lanes;
            round_lanes(lanes, weight + i);
        }
        return sum(total);
    }
};

}  // namespace

extern "C" {

void hx_embed(const Model* model, const Token* tokens, int64_t count, float* x) {
    const int64_t width = model->width;
    for (int64_t t = 0; t < count; t++) {
        const Token& k = tokens[t];
        const float *a = model->tokens + k.token * width, *b = model->bars + k.bar * width;
        const float *c = model->steps + k.step * width, *d = model->slots + k.slot * width;
        const float* e = model->previous + k.previous * width;
        for (int64_t i = 0; i < width; i++) x[t * width + i] = a[i] + b[i] + c[i] + d[i] + e[i];
        if (k.controls)
            for (int64_t i = 0; i < width; i++) x[t * width + i] += k.controls[i];
    }
}

void hx_layers(const Model* model, const Token* tokens, int64_t count, float* x, int64_t first, int64_t stop) {
    AmxTiles tiles;
    Pass pass{*model, tokens, (int)count, x};
    for (int64_t layer = first; layer < stop; layer++) pass.run((int)layer);
}

// Write only the keys and values of a layer: all that a prefill needs of the last one.
void hx_write_cache(const Model* model, const Token* tokens, int64_t count, float* x, int64_t layer) {
    AmxTiles tiles;
    Pass{*model, tokens, (int)count, x}.write_cache((int)layer);
}

// Write the logits [rows, stride] of the tokens that have a `logits_row`.
void hx_logits(const Model* model, const Token* tokens, int64_t count, const float* x, float* out, int64_t stride) {
    AmxTiles tiles;
    const int64_t width = model->width;
    std::vector<uint16_t> rounded((size_t)count * width);
    std::vector<float> all_logits((size_t)count * stride);
    int rows = 0;
    for (int64_t t = 0; t < count; t++)
        if (tokens[t].logits_row >= 0) normalise(x + t * width, model->norm, &rounded[width * rows++], (int)width);
    multiply(rows, (const uint32_t*)rounded.data(), width / 2, model->head, (int)(width / 2), (int)model->vocabulary,
             width / 2 * PANEL, all_logits.data(), stride);
    rows = 0;
    for (int64_t t = 0; t < count; t++)
        if (tokens[t].logits_row >= 0)
            std::memcpy(out + tokens[t].logits_row * stride, &all_logits[stride * rows++], sizeof(float) * stride);
}

void hx_forward(const Model* model, const Token* tokens, int64_t count, float* x, float* out, int64_t stride) {
    hx_embed(model, tokens, count, x);
    hx_layers(model, tokens, count, x, 0, model->layers);
    hx_logits(model, tokens, count, x, out, stride);
}
}
