// Pointers that follow the passages of a prompt, as `tokens.pointer.Pointers`, and the gate that gives what they guess its
// chance, as `infill.pointer.PointerGate`. Both are written out there.
#pragma once

#include <cmath>
#include <vector>

#include "lanes.h"
#include "vocabulary.h"

extern "C" {

// One prompt's passages, owned by whoever made them. Notes are four tokens each: position, pitch, duration, velocity.
struct Passages {
    const Vocabulary* vocabulary;
    const int64_t *notes, *first;  // [notes, 4]; [passages * cells + 1], where each cell of each passage begins
    const double* similarity;      // [passages]
    int64_t passages, cells;
};
}

namespace {

enum Kind { POSITION, PITCH, DURATION, VELOCITY, OTHER };
constexpr int EVIDENCE = 6, FEATURES = EVIDENCE + 2;
constexpr double FADING = 0.95, LOG_LEAST = -15.0, LOG_MOST = -1e-4, CHANCE_LEAST = 1e-7;

Kind kind_of(const Vocabulary& v, int64_t token) {
    if (token >= v.position && token < v.position + v.positions) return POSITION;
    if (token >= v.pitch && token < v.pitch + v.pitches) return PITCH;
    if (token >= v.duration && token < v.duration + v.durations) return DURATION;
    if (token >= v.velocity && token < v.velocity + v.velocities) return VELOCITY;
    return OTHER;
}

struct Guess {
    int64_t token = -1;  // -1: no passage says anything
    Kind kind = OTHER;
    double evidence[EVIDENCE] = {};
};

struct Pointers {
    struct Note {
        int64_t position, pitch, duration, velocity;
    };

    // One passage in one cell.
    struct Pointer {
        const Note *next, *end;
        const Note* matched = nullptr;
        int64_t position = -1, pitch = -1, velocity = -1, guess;

        Pointer(const Note* first, const Note* last, int64_t close)
            : next(first), end(last), guess(first < last ? first->position : close) {}

        const Note* skip() {
            while (next < end && !(next->position > position || (next->position == position && next->pitch > pitch))) next++;
            return next < end ? next : nullptr;
        }

        void match(int64_t said) {
            const Note *at = next, *first = next;
            while (at < end && at->position == position && at->pitch < said) at++;
            if (at < end && at->position == position && at->pitch == said) first = at;
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
    std::vector<double> told, times;
    std::vector<Pointer> pointers;
    int64_t cell = -1;

    explicit Pointers(const Passages& of) : passages(of), told(of.passages), times(of.passages) { open_cell(); }

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
                told[p] = told[p] * FADING + (pointers[p].guess == token);
                times[p] = times[p] * FADING + 1;
            }
            pointers[p].advance(token, kind, vocabulary.end);
        }
        if (token == vocabulary.end) open_cell();
    }

    static double weight(double trust) { return 1 / (1 + std::exp(2 - trust)); }

    double odds(size_t p) const { return std::log((told[p] + 1) / (times[p] - told[p] + 1)); }

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
        const double evidence[EVIDENCE] = {1, passages.similarity[best], odds(best), times[best] / 20, agree, differ};
        std::copy(evidence, evidence + EVIDENCE, found.evidence);
        return found;
    }
};

// Give the guess its chance: `gate` is [kinds, features].
// `copy_strength` goes from the model's own chance (0) to the gate's (1).
inline void mix(float* logits, int64_t size, const Guess& guess, const double* gate, double copy_strength) {
    if (guess.token < 0 || copy_strength <= 0) return;
    float highest = logits[0];
    for (int64_t i = 1; i < size; i++) highest = std::max(highest, logits[i]);
    Lanes sums = {};
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) sums += exponential(load(logits + i) - highest);
    double total = sum(sums);
    for (; i < size; i++) total += std::exp(logits[i] - highest);
    const double whole = std::log(total) + highest;
    const double own = std::clamp(logits[guess.token] - whole, LOG_LEAST, LOG_MOST);
    const double odds = own - std::log1p(-std::exp(own)), *weight = gate + guess.kind * FEATURES;
    double said = weight[0] * odds + weight[1] * odds * guess.evidence[1];
    for (int e = 0; e < EVIDENCE; e++) said += weight[2 + e] * guess.evidence[e];
    const double gated = 1 / (1 + std::exp(-said));
    const double mixed = std::exp(own) + copy_strength * (gated - std::exp(own));
    const double chance = std::clamp(mixed, CHANCE_LEAST, 1 - CHANCE_LEAST);
    // The others keep their logits and together weigh 1 - chance.
    logits[guess.token] = (float)(whole + std::log1p(-std::exp(own)) + std::log(chance) - std::log1p(-chance));
}

}  // namespace
