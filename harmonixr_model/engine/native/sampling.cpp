// Sample the next token of a row: copy pointer, grammar mask, temperature, top-k and top-p; as `infill.sample`.

#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "copy_pointer.h"
#include "grammar.h"
#include "simd.h"

namespace {

// Memory that a thread reuses from one call to the next.
struct Scratch {
    std::vector<uint8_t> mask;
    std::vector<int64_t> tokens;
    std::vector<float> logits, probabilities;
    std::vector<uint64_t> order;
};

// Write e^((logit - highest) / temperature) to `to`; return the sum.
double softmax_numerators(const std::vector<float>& logits, float highest, float temperature, std::vector<float>& to) {
    to.resize(logits.size());
    double total = 0;
    for (size_t i = 0; i < logits.size(); i += LANES) {
        Lanes lanes = exponential((load(&logits[i]) - highest) / temperature);
        store(&to[i], lanes);
    }
    for (float p : to) total += p;
    return total;
}

// Keep the top k, then the nucleus: the smallest set of the likeliest tokens whose mass reaches top p. Return the mass.
double keep_top(Scratch& scratch, size_t count, double total, const SamplingSettings& settings) {
    auto& p = scratch.probabilities;
    if (settings.top_k > 0 && (size_t)settings.top_k < count) {
        std::vector<float> sorted(p.begin(), p.begin() + count);
        std::nth_element(sorted.begin(), sorted.begin() + settings.top_k - 1, sorted.end(), std::greater<float>());
        const float least = sorted[settings.top_k - 1];
        total = 0;
        for (size_t i = 0; i < count; i++) total += p[i] = p[i] < least ? 0 : p[i];
    }
    if (settings.top_p >= 1) return total;
    // A token that is rarer than this is never in the nucleus, so it need not be sorted.
    const float rare = (float)((1 - settings.top_p) * total / count * 0.999);
    scratch.order.clear();
    for (size_t i = 0; i < count; i++) {
        if (p[i] > 0 && p[i] >= rare) {
            uint32_t bits;
            std::memcpy(&bits, &p[i], sizeof bits);
            // Of equally likely tokens the first one wins.
            scratch.order.push_back((uint64_t)bits << 32 | (uint32_t)~i);
        }
        p[i] = 0;
    }
    std::sort(scratch.order.begin(), scratch.order.end(), std::greater<uint64_t>());
    double before = 0;
    for (uint64_t packed : scratch.order) {
        if (before >= settings.top_p * total) break;
        const uint32_t bits = (uint32_t)(packed >> 32);
        float probability;
        std::memcpy(&probability, &bits, sizeof bits);
        before += p[(uint32_t)~packed] = probability;
    }
    return before;
}

bool is_empty(const uint8_t* eight) {
    uint64_t bits;
    std::memcpy(&bits, eight, sizeof bits);
    return bits == 0;
}

int64_t sample(const Grammar& grammar, const float* logits, const SamplingSettings& settings, Scratch& scratch,
               double* log_probability) {
    const int64_t size = grammar.vocabulary.size;
    scratch.mask.assign(size, 0);
    grammar.allow(scratch.mask.data());
    scratch.tokens.clear(), scratch.logits.clear();
    float highest = -INFINITY;
    size_t likeliest = 0;
    for (int64_t token = 0; token < size; token++) {
        while (token + 8 <= size && is_empty(&scratch.mask[token])) token += 8;
        if (token == size) break;
        if (!scratch.mask[token]) continue;
        if (logits[token] > highest) highest = logits[token], likeliest = scratch.tokens.size();
        scratch.tokens.push_back(token), scratch.logits.push_back(logits[token]);
    }
    const size_t count = scratch.tokens.size();
    scratch.logits.resize((count + LANES - 1) / LANES * LANES, -INFINITY);
    double total = softmax_numerators(scratch.logits, highest, 1.0f, scratch.probabilities);
    const double log_total = std::log(total);
    size_t chosen = likeliest;
    if (settings.temperature > 0) {
        if (settings.temperature != 1)
            total = softmax_numerators(scratch.logits, highest, (float)settings.temperature, scratch.probabilities);
        const double target = settings.uniform * keep_top(scratch, count, total, settings);
        double below = 0;
        for (size_t i = 0; i < count; i++) {
            if (scratch.probabilities[i] <= 0) continue;
            chosen = i;  // the last one, where rounding puts the target past the end
            if ((below += scratch.probabilities[i]) > target) break;
        }
    }
    *log_probability = scratch.logits[chosen] - highest - log_total;
    return scratch.tokens[chosen];
}

}  // namespace

extern "C" {

void* hx_grammar_open(const FillTables* tables) { return new Grammar(*tables); }

void hx_grammar_close(void* grammar) { delete (Grammar*)grammar; }

int64_t hx_grammar_finished(const void* grammar) { return ((const Grammar*)grammar)->expects == Expects::nothing; }

void hx_grammar_allow(const void* grammar, uint8_t* mask) { ((const Grammar*)grammar)->allow(mask); }

void hx_grammar_advance(void* grammar, int64_t token) { ((Grammar*)grammar)->advance(token); }

void* hx_copy_pointer_open(const Passages* passages) { return new CopyPointer(*passages); }

void hx_copy_pointer_close(void* pointers) { delete (CopyPointer*)pointers; }

void hx_sample(void** grammars, void** pointers, const double* gate, int64_t count, float* logits, int64_t stride,
               const SamplingSettings* settings, int64_t* tokens, double* log_probabilities) {
    thread_local Scratch scratch;
    for (int64_t r = 0; r < count; r++, logits += stride) {
        auto* grammar = (Grammar*)grammars[r];
        auto* row_pointers = (CopyPointer*)pointers[r];
        if (row_pointers) mix(logits, grammar->vocabulary.size, row_pointers->guess(), gate, settings[r].copy_strength);
        tokens[r] = sample(*grammar, logits, settings[r], scratch, log_probabilities + r);
        grammar->advance(tokens[r]);
        if (row_pointers) row_pointers->advance(tokens[r]);
    }
}
}
