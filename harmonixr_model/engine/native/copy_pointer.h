// The copy pointer, as `prompt.copy_pointer.CopyPointer`, and the copy gate, as `infill.copy_gate.CopyGate`.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "simd.h"
#include "vocabulary.h"

extern "C" {

// One prompt's similar passages; the caller owns them. A note is four tokens: position, pitch, duration, velocity.
struct Passages {
    const Vocabulary* vocabulary;
    const int64_t *notes, *first;  // [notes, 4]; [passages * cells + 1], the first note of each cell of each passage
    const double* similarity;      // [passages]
    int64_t passages, cells;
};
}

namespace {

enum Kind { POSITION, PITCH, DURATION, VELOCITY, OTHER };
constexpr int EVIDENCE = 6, FEATURES = EVIDENCE + 2;
constexpr double DECAY = 0.95, MIN_LOG = -15.0, MAX_LOG = -1e-4, MIN_PROBABILITY = 1e-7;

Kind kind_of(const Vocabulary& v, int64_t token) {
    if (token >= v.position && token < v.position + v.positions) return POSITION;
    if (token >= v.pitch && token < v.pitch + v.pitches) return PITCH;
    if (token >= v.duration && token < v.duration + v.durations) return DURATION;
    if (token >= v.velocity && token < v.velocity + v.velocities) return VELOCITY;
    return OTHER;
}

struct Guess {
    int64_t token = -1;  // -1: no passage has a guess
    Kind kind = OTHER;
    double evidence[EVIDENCE] = {};
};

struct CopyPointer {
    struct Note {
        int64_t position, pitch, duration, velocity;
    };

    // One passage in one cell.
    struct PassagePointer {
        const Note *next, *end;
        const Note* matched = nullptr;
        int64_t position = -1, pitch = -1, velocity = -1, guess;

        PassagePointer(const Note* first, const Note* last, int64_t close)
            : next(first), end(last), guess(first < last ? first->position : close) {}

        const Note* skip() {
            while (next < end && std::pair(next->position, next->pitch) <= std::pair(position, pitch)) next++;
            return next < end ? next : nullptr;
        }

        void match(int64_t token) {
            const Note *at = next, *first = next;
            while (at < end && at->position == position && at->pitch < token) at++;
            if (at < end && at->position == position && at->pitch == token) first = at;
            const bool is_there = first < end && first->position == position;
            matched = is_there ? first : nullptr;
            if (is_there) next = first + 1;
        }

        int64_t after_note(int64_t close) {
            const Note* note = skip();
            if (matched && matched->velocity != velocity) return matched->velocity;
            if (!note) return close;
            return note->position == position ? note->pitch : note->position;
        }

        void advance(int64_t token, Kind kind, int64_t close) {
            if (kind == POSITION) {
                position = token, pitch = -1, matched = nullptr;
                const Note* note = skip();
                guess = note && note->position == token ? note->pitch : -1;
            } else if (kind == PITCH) {
                pitch = token;
                match(token);
                guess = matched ? matched->duration : -1;
            } else {
                if (kind == VELOCITY) velocity = token, matched = nullptr;
                guess = after_note(close);
            }
        }
    };

    const Passages& passages;
    const Vocabulary& vocabulary = *passages.vocabulary;
    std::vector<double> hits, trials;
    std::vector<PassagePointer> pointers;
    int64_t cell = -1;

    explicit CopyPointer(const Passages& of) : passages(of), hits(of.passages), trials(of.passages) { open_cell(); }

    void open_cell() {
        pointers.clear();
        if (++cell >= passages.cells) return;
        const auto* notes = (const Note*)passages.notes;
        for (int64_t p = 0; p < passages.passages; p++) {
            const int64_t* first = passages.first + p * passages.cells + cell;
            pointers.emplace_back(notes + first[0], notes + first[1], vocabulary.end);
        }
    }

    void advance(int64_t token) {
        const Kind kind = kind_of(vocabulary, token);
        for (size_t p = 0; p < pointers.size(); p++) {
            if (pointers[p].guess >= 0) {
                hits[p] = hits[p] * DECAY + (pointers[p].guess == token);
                trials[p] = trials[p] * DECAY + 1;
            }
            pointers[p].advance(token, kind, vocabulary.end);
        }
        if (token == vocabulary.end) open_cell();
    }

    static double weight(double trust) { return 1 / (1 + std::exp(2 - trust)); }

    double odds(size_t p) const { return std::log((hits[p] + 1) / (trials[p] - hits[p] + 1)); }

    Guess guess() const {
        Guess found;
        double highest = -INFINITY;
        size_t best = 0;
        for (size_t p = 0; p < pointers.size(); p++) {
            const double trust = odds(p) + 3 * passages.similarity[p];
            if (pointers[p].guess >= 0 && trust > highest) best = p, highest = trust, found.token = pointers[p].guess;
        }
        if (found.token < 0) return found;
        double agree = -weight(highest), differ = 0;
        for (size_t p = 0; p < pointers.size(); p++)
            if (pointers[p].guess >= 0)
                (pointers[p].guess == found.token ? agree : differ) += weight(odds(p) + 3 * passages.similarity[p]);
        found.kind = kind_of(vocabulary, found.token);
        const double evidence[EVIDENCE] = {1, passages.similarity[best], odds(best), trials[best] / 20, agree, differ};
        std::copy(evidence, evidence + EVIDENCE, found.evidence);
        return found;
    }
};

// Set the probability of the guess: the model's own at a `copy_strength` of 0, the copy gate's at 1. `gate` holds the
// gate's weights, [kinds, features].
inline void mix(float* logits, int64_t size, const Guess& guess, const double* gate, double copy_strength) {
    if (guess.token < 0 || copy_strength <= 0) return;
    float highest = logits[0];
    for (int64_t i = 1; i < size; i++) highest = std::max(highest, logits[i]);
    Lanes sums = {};
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) sums += exponential(load(logits + i) - highest);
    double total = sum(sums);
    for (; i < size; i++) total += std::exp(logits[i] - highest);
    const double log_total = std::log(total) + highest;
    const double own = std::clamp(logits[guess.token] - log_total, MIN_LOG, MAX_LOG);
    const double odds = own - std::log1p(-std::exp(own)), *weight = gate + guess.kind * FEATURES;
    double log_odds = weight[0] * odds + weight[1] * odds * guess.evidence[1];
    for (int e = 0; e < EVIDENCE; e++) log_odds += weight[2 + e] * guess.evidence[e];
    const double gated = 1 / (1 + std::exp(-log_odds));
    const double mixed = std::exp(own) + copy_strength * (gated - std::exp(own));
    const double probability = std::clamp(mixed, MIN_PROBABILITY, 1 - MIN_PROBABILITY);
    // The other logits stay; their tokens together have the rest of the probability.
    const double log_others = log_total + std::log1p(-std::exp(own));
    logits[guess.token] = (float)(log_others + std::log(probability) - std::log1p(-probability));
}

}  // namespace
