// The grammar of fills for one row, as `tokens.grammar.FillGrammar` has it, and the draw of its next token, as
// `infill.sample`, once pointers have spoken. The rules are written out in `tokens.rules.GrammarRules`. Knows nothing of
// models.

#include <algorithm>
#include <cmath>
#include <vector>

#include "draw.h"
#include "lanes.h"
#include "pointer.h"
#include "vocabulary.h"

extern "C" {

// One prompt's tables, owned by whoever made them; see GrammarRules.
struct Rules {
    const Vocabulary* vocabulary;
    const int16_t *max_duration, *sounding;  // [groups, steps, 128], [tracks, horizon]
    const int64_t *cell_group, *cell_row, *bar_start, *cell_start, *cell_end, *min_notes, *max_notes, *counts_on;
    const int64_t *last_end, *close_tokens, *header_size;
    const uint8_t *pitch_allowed, *velocity_allowed;
    int64_t groups, tracks, steps, horizon, cells, max_polyphony, max_tokens, min_polyphony;
};
}

namespace {

enum class Expects { boundary, pitch, duration, first_velocity, nothing };
constexpr int PITCHES = 128, LONGEST = 1536, NO_PITCH = 128;

struct Grammar {
    const Rules& rules;
    const Vocabulary& vocabulary = *rules.vocabulary;
    std::vector<int16_t> max_duration, sounding;
    int64_t used = 0, cell = -1, count = 0, step = -1, pitch = -1, velocity = -1;
    bool may_say_velocity = false;
    Expects expects = Expects::boundary;

    explicit Grammar(const Rules& of)
        : rules(of),
          max_duration(of.max_duration, of.max_duration + of.groups * of.steps * PITCHES),
          sounding(of.sounding, of.sounding + of.tracks * of.horizon) {
        open_cell(0);
    }

    // Takes the header of a cell, or EOS after the last one.
    void open_cell(int64_t next) {
        if (next == rules.cells) {
            used++;
            expects = Expects::nothing;
            return;
        }
        used += rules.header_size[next];
        cell = next;
        count = rules.counts_on[cell] ? count : 0;
        step = rules.cell_start[cell] - 1, pitch = NO_PITCH, velocity = -1;
        may_say_velocity = false;
        expects = Expects::boundary;
    }

    void advance(int64_t token) {
        const Vocabulary& v = vocabulary;
        used++;
        if (token == v.end) {
            open_cell(cell + 1);
        } else if (expects == Expects::pitch || (token >= v.pitch && token < v.pitch + PITCHES)) {
            pitch = token - v.pitch, expects = Expects::duration;
        } else if (expects == Expects::duration) {
            place(v.duration_steps[token - v.duration]);
        } else if (token >= v.velocity && token < v.velocity + v.velocities) {
            velocity = token, may_say_velocity = false, expects = Expects::boundary;
        } else {
            step = rules.bar_start[cell] + token - v.position, pitch = -1, expects = Expects::pitch;
        }
    }

    const int16_t* open_at(int64_t at) const {
        return &max_duration[(rules.cell_group[cell] * rules.steps + at) * PITCHES];
    }
    const int16_t* voices_at(int64_t at) const { return &sounding[rules.cell_row[cell] * rules.horizon + at]; }
    const uint8_t* allowed_pitches() const { return rules.pitch_allowed + cell * PITCHES; }
    int64_t need() const { return std::max<int64_t>(0, rules.min_notes[cell] - count); }

    // Takes note of (step, pitch, duration) in the tables.
    void place(int64_t duration) {
        auto* column = &max_duration[rules.cell_group[cell] * rules.steps * PITCHES + pitch];
        for (int64_t s = step; s < std::min(step + duration, rules.steps); s++) column[s * PITCHES] = 0;
        for (int64_t s = std::max<int64_t>(0, step - LONGEST); s < step; s++)
            column[s * PITCHES] = std::min(column[s * PITCHES], (int16_t)(step - s));
        auto* voices = &sounding[rules.cell_row[cell] * rules.horizon];
        for (int64_t s = step; s < std::min(step + duration, rules.horizon); s++) voices[s]++;
        count++;
        may_say_velocity = velocity >= 0;
        expects = velocity >= 0 ? Expects::boundary : Expects::first_velocity;
    }

    int64_t open_pitches(int64_t at) const {
        const int16_t* longest = open_at(at);
        const uint8_t* allowed = allowed_pitches();
        int16_t open = 0;
        for (int p = 0; p < PITCHES; p++) open += (int16_t)(longest[p] > 0) & (int16_t)allowed[p];
        return open;
    }

    // How many notes of duration 1 could begin at a step.
    int64_t room(int64_t at) const {
        return std::min(open_pitches(at), std::max<int64_t>(0, rules.max_polyphony - *voices_at(at)));
    }

    // Whether any note could begin at a step: what room() is asked for when no minimum is.
    bool is_open(int64_t at) const {
        if (*voices_at(at) >= rules.max_polyphony) return false;
        const int16_t* longest = open_at(at);
        const uint8_t* allowed = allowed_pitches();
        for (int p = 0; p < PITCHES; p += 32) {
            int16_t open = 0;
            for (int i = p; i < p + 32; i++) open |= (int16_t)(longest[i] > 0) & (int16_t)allowed[i];
            if (open) return true;
        }
        return false;
    }

    void allow(uint8_t* mask) const {
        const Vocabulary& v = vocabulary;
        if (expects == Expects::boundary) allow_boundary(mask);
        if (expects == Expects::pitch) {
            uint8_t loose[PITCHES], enough[PITCHES];
            bool is_enough = pitches(-1, rooms_after(step), loose, enough);
            std::memcpy(mask + v.pitch, is_enough ? enough : loose, PITCHES);
        }
        if (expects == Expects::duration) allow_durations(mask + v.duration);
        if (expects == Expects::first_velocity) std::memcpy(mask + v.velocity, rules.velocity_allowed, v.velocities);
    }

    int64_t rooms_after(int64_t at) const {
        int64_t rooms = 0;
        if (need() <= 1) return rooms;  // nothing is asked of what comes later
        for (int64_t s = at + 1; s < rules.cell_end[cell]; s++) rooms += room(s);
        return rooms;
    }

    void allow_boundary(uint8_t* mask) const {
        const Vocabulary& v = vocabulary;
        const int64_t left = rules.max_tokens - used - rules.close_tokens[cell];
        bool is_any = false;
        if (left >= 5 && count < rules.max_notes[cell]) is_any = allow_onsets(mask);
        if (left >= 2 && may_say_velocity) {
            std::memcpy(mask + v.velocity, rules.velocity_allowed, v.velocities);
            mask[velocity] = 0;
            is_any |= std::any_of(mask + v.velocity, mask + v.velocity + v.velocities, [](uint8_t m) { return m; });
        }
        mask[v.end] = count >= rules.min_notes[cell] || !is_any;
        if (others_join(mask)) {
            const int64_t start = rules.cell_start[cell] - rules.bar_start[cell];
            std::memset(mask + v.position + start, 0, rules.cell_end[cell] - rules.cell_start[cell]);
            mask[v.end] = 0;
        }
    }

    // Whether the last note's step wants more voices and may have them.
    bool others_join(const uint8_t* mask) const {
        if (!rules.min_polyphony || pitch < 0 || pitch >= PITCHES || *voices_at(step) >= rules.min_polyphony) return false;
        const uint8_t* open = mask + vocabulary.pitch;
        return std::any_of(open, open + PITCHES, [](uint8_t m) { return m; });
    }

    // The steps and pitches that leave room for the notes still needed; all that may begin where none does.
    bool allow_onsets(uint8_t* mask) const {
        const int64_t start = rules.cell_start[cell], width = rules.cell_end[cell] - start;
        uint8_t* at = mask + vocabulary.position + start - rules.bar_start[cell];
        uint8_t loose[PITCHES], enough[PITCHES];
        std::vector<uint8_t> steps_enough(width);
        bool is_enough = false;
        const bool asks = need() > 0;
        int64_t rooms = 0, later = 0;
        for (int64_t i = width - 1; i >= 0; i--) {
            const int64_t here = asks ? room(start + i) : is_open(start + i);
            if (start + i == step) later = rooms;
            rooms += here;
            at[i] = here > 0 && start + i > step && start + i < rules.last_end[cell];
            steps_enough[i] = at[i] && rooms >= need();
            is_enough |= steps_enough[i];
            if (start + i <= step) break;  // nothing before the last onset may be named
        }
        if (step < start) later = rooms;
        is_enough |= pitches(pitch, later, loose, enough);
        if (is_enough) std::copy(steps_enough.begin(), steps_enough.end(), at);
        std::memcpy(mask + vocabulary.pitch, is_enough ? enough : loose, PITCHES);
        auto is_set = [](uint8_t m) { return m; };
        const uint8_t* chosen = mask + vocabulary.pitch;
        return std::any_of(at, at + width, is_set) || std::any_of(chosen, chosen + PITCHES, is_set);
    }

    // Which pitches above one may begin at the row's step, and which of them leave room; returns whether any does.
    bool pitches(int64_t above, int64_t later, uint8_t* loose, uint8_t* enough) const {
        std::memset(loose, 0, PITCHES);
        std::memset(enough, 0, PITCHES);
        if (above > 127 || step < 0) return false;
        const int64_t voices = rules.max_polyphony - *voices_at(step);
        if (voices <= 0 || step >= rules.last_end[cell]) return false;
        const int16_t* longest = open_at(step);
        bool is_enough = false;
        int64_t higher = 0;
        for (int64_t p = PITCHES - 1; p > above; p--) {
            if (longest[p] <= 0 || !allowed_pitches()[p]) continue;
            loose[p] = 1;
            enough[p] = std::min(higher, voices - 1) + later >= need() - 1;
            is_enough |= enough[p];
            higher++;
        }
        return is_enough;
    }

    void allow_durations(uint8_t* mask) const {
        const int16_t* voices = voices_at(step);
        int64_t longest = std::min<int64_t>(open_at(step)[pitch], rules.last_end[cell] - step);
        int64_t free = 0;
        while (free < longest && step + free < rules.horizon && voices[free] < rules.max_polyphony) free++;
        longest = std::min(longest, free);
        bool is_enough = false;
        for (int64_t d = 0; d < vocabulary.durations; d++) mask[d] = longest >= vocabulary.duration_steps[d];
        if (need() <= 1) return;
        std::vector<uint8_t> enough(vocabulary.durations);
        std::vector<int64_t> after = rooms_under_note();
        for (int64_t d = 0; d < vocabulary.durations; d++) {
            const int64_t last = std::min(vocabulary.duration_steps[d] - 1, (int64_t)after.size() - 1);
            enough[d] = mask[d] && after[last] >= need() - 1;
            is_enough |= enough[d];
        }
        if (is_enough) std::copy(enough.begin(), enough.end(), mask);
    }

    // How many more notes would fit if the note at (step, pitch) lasted 1, 2, … steps.
    std::vector<int64_t> rooms_under_note() const {
        const int16_t* longest = open_at(step);
        int64_t higher = 0, free = 0;
        for (int64_t p = pitch + 1; p < PITCHES; p++) higher += longest[p] > 0 && allowed_pitches()[p];
        const int64_t here = std::min(higher, rules.max_polyphony - *voices_at(step) - 1);
        std::vector<int64_t> lost{0};
        for (int64_t s = step + 1; s < rules.cell_end[cell]; s++) {
            const int64_t open = open_pitches(s), voices = rules.max_polyphony - *voices_at(s);
            const bool is_taken = open_at(s)[pitch] > 0 && allowed_pitches()[pitch];
            const int64_t now = std::min(open, std::max<int64_t>(0, voices));
            const int64_t under = std::min(open - is_taken, std::max<int64_t>(0, voices - 1));
            free += now;
            lost.push_back(lost.back() + now - under);
        }
        for (int64_t& l : lost) l = here + free - l;
        return lost;
    }
};

// What a draw is made in, kept by the thread from one draw to the next.
struct Room {
    std::vector<uint8_t> mask;
    std::vector<int64_t> tokens;
    std::vector<float> logits, probabilities;
    std::vector<uint64_t> order;
};

// Fill `to` with e^(logit - highest), the logits divided by the temperature; returns the sum.
double soften(const std::vector<float>& logits, float highest, float temperature, std::vector<float>& to) {
    to.resize(logits.size());
    double total = 0;
    for (size_t i = 0; i < logits.size(); i += LANES) {
        Lanes lanes = exponential((load(&logits[i]) - highest) / temperature);
        store(&to[i], lanes);
    }
    for (float p : to) total += p;
    return total;
}

// Leave only the top k, then the smallest set of the likeliest whose mass reaches top p; returns the mass left.
double cut(Room& room, size_t count, double total, const Settings& settings) {
    auto& p = room.probabilities;
    if (settings.top_k > 0 && (size_t)settings.top_k < count) {
        std::vector<float> sorted(p.begin(), p.begin() + count);
        std::nth_element(sorted.begin(), sorted.begin() + settings.top_k - 1, sorted.end(), std::greater<float>());
        const float least = sorted[settings.top_k - 1];
        total = 0;
        for (size_t i = 0; i < count; i++) total += p[i] = p[i] < least ? 0 : p[i];
    }
    if (settings.top_p >= 1) return total;
    // What is rarer than this lies behind more than top p of the mass, wherever exactly: it need not be sorted.
    const float rare = (float)((1 - settings.top_p) * total / count * 0.999);
    room.order.clear();
    for (size_t i = 0; i < count; i++) {
        if (p[i] > 0 && p[i] >= rare) {
            uint32_t bits;
            std::memcpy(&bits, &p[i], sizeof bits);
            room.order.push_back((uint64_t)bits << 32 | (uint32_t)~i);  // of equals the first comes first
        }
        p[i] = 0;
    }
    std::sort(room.order.begin(), room.order.end(), std::greater<uint64_t>());
    double before = 0;
    for (uint64_t packed : room.order) {
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

int64_t draw(const Grammar& grammar, const float* logits, const Settings& settings, Room& room, double* log_probability) {
    const int64_t size = grammar.vocabulary.size;
    room.mask.assign(size, 0);
    grammar.allow(room.mask.data());
    room.tokens.clear(), room.logits.clear();
    float highest = -INFINITY;
    size_t likeliest = 0;
    for (int64_t token = 0; token < size; token++) {
        while (token + 8 <= size && is_empty(&room.mask[token])) token += 8;
        if (token == size) break;
        if (!room.mask[token]) continue;
        if (logits[token] > highest) highest = logits[token], likeliest = room.tokens.size();
        room.tokens.push_back(token), room.logits.push_back(logits[token]);
    }
    const size_t count = room.tokens.size();
    room.logits.resize((count + LANES - 1) / LANES * LANES, -INFINITY);
    double total = soften(room.logits, highest, 1.0f, room.probabilities);
    const double log_total = std::log(total);
    size_t chosen = likeliest;
    if (settings.temperature > 0) {
        if (settings.temperature != 1)
            total = soften(room.logits, highest, (float)settings.temperature, room.probabilities);
        const double target = settings.uniform * cut(room, count, total, settings);
        double below = 0;
        for (size_t i = 0; i < count; i++) {
            if (room.probabilities[i] <= 0) continue;
            chosen = i;  // the last one, should rounding carry the target past the end
            if ((below += room.probabilities[i]) > target) break;
        }
    }
    *log_probability = room.logits[chosen] - highest - log_total;
    return room.tokens[chosen];
}

}  // namespace

extern "C" {

void* hx_grammar_open(const Rules* rules) { return new Grammar(*rules); }

void hx_grammar_close(void* grammar) { delete (Grammar*)grammar; }

int64_t hx_grammar_finished(const void* grammar) { return ((const Grammar*)grammar)->expects == Expects::nothing; }

void hx_grammar_allow(const void* grammar, uint8_t* mask) { ((const Grammar*)grammar)->allow(mask); }

void hx_grammar_advance(void* grammar, int64_t token) { ((Grammar*)grammar)->advance(token); }

void* hx_pointers_open(const Passages* passages) { return new Pointers(*passages); }

void hx_pointers_close(void* pointers) { delete (Pointers*)pointers; }

void hx_choose(void** grammars, void** pointers, const double* gate, int64_t count, float* logits, int64_t stride,
               const Settings* settings, int64_t* tokens, double* log_probabilities) {
    thread_local Room room;
    for (int64_t r = 0; r < count; r++, logits += stride) {
        auto* grammar = (Grammar*)grammars[r];
        auto* pointing = (Pointers*)pointers[r];
        if (pointing) mix(logits, grammar->vocabulary.size, pointing->guess(), gate, settings[r].copy_strength);
        tokens[r] = draw(*grammar, logits, settings[r], room, log_probabilities + r);
        grammar->advance(tokens[r]);
        if (pointing) pointing->advance(tokens[r]);
    }
}
}
