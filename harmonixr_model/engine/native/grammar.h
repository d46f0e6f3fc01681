// The grammar of one row's note fill, as `grammar.fill_grammar.FillGrammar`. The tables are documented in
// `grammar.fill_tables.FillTables`.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "vocabulary.h"

extern "C" {

// One prompt's tables; the caller owns them.
struct FillTables {
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
    const FillTables& tables;
    const Vocabulary& vocabulary = *tables.vocabulary;
    std::vector<int16_t> max_duration, sounding;
    int64_t used = 0, cell = -1, count = 0, step = -1, pitch = -1, velocity = -1;
    bool may_change_velocity = false;
    Expects expects = Expects::boundary;

    explicit Grammar(const FillTables& of)
        : tables(of),
          max_duration(of.max_duration, of.max_duration + of.groups * of.steps * PITCHES),
          sounding(of.sounding, of.sounding + of.tracks * of.horizon) {
        open_cell(0);
    }

    // Advance by the header of a cell, or by EOS after the last one.
    void open_cell(int64_t next) {
        if (next == tables.cells) {
            used++;
            expects = Expects::nothing;
            return;
        }
        used += tables.header_size[next];
        cell = next;
        count = tables.counts_on[cell] ? count : 0;
        step = tables.cell_start[cell] - 1, pitch = NO_PITCH, velocity = -1;
        may_change_velocity = false;
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
            place_note(v.duration_steps[token - v.duration]);
        } else if (token >= v.velocity && token < v.velocity + v.velocities) {
            velocity = token, may_change_velocity = false, expects = Expects::boundary;
        } else {
            step = tables.bar_start[cell] + token - v.position, pitch = -1, expects = Expects::pitch;
        }
    }

    const int16_t* max_durations_at(int64_t at) const {
        return &max_duration[(tables.cell_group[cell] * tables.steps + at) * PITCHES];
    }
    const int16_t* sounding_at(int64_t at) const { return &sounding[tables.cell_row[cell] * tables.horizon + at]; }
    const uint8_t* allowed_pitches() const { return tables.pitch_allowed + cell * PITCHES; }
    int64_t missing_notes() const { return std::max<int64_t>(0, tables.min_notes[cell] - count); }

    // Enter the note (step, pitch, duration) in the tables.
    void place_note(int64_t duration) {
        auto* column = &max_duration[tables.cell_group[cell] * tables.steps * PITCHES + pitch];
        for (int64_t s = step; s < std::min(step + duration, tables.steps); s++) column[s * PITCHES] = 0;
        for (int64_t s = std::max<int64_t>(0, step - LONGEST); s < step; s++)
            column[s * PITCHES] = std::min(column[s * PITCHES], (int16_t)(step - s));
        auto* voices = &sounding[tables.cell_row[cell] * tables.horizon];
        for (int64_t s = step; s < std::min(step + duration, tables.horizon); s++) voices[s]++;
        count++;
        may_change_velocity = velocity >= 0;
        expects = velocity >= 0 ? Expects::boundary : Expects::first_velocity;
    }

    int64_t open_pitches(int64_t at) const {
        const int16_t* longest = max_durations_at(at);
        const uint8_t* allowed = allowed_pitches();
        int16_t open = 0;
        for (int p = 0; p < PITCHES; p++) open += (int16_t)(longest[p] > 0) & (int16_t)allowed[p];
        return open;
    }

    // How many notes of duration 1 may begin at a step.
    int64_t room_at(int64_t at) const {
        return std::min(open_pitches(at), std::max<int64_t>(0, tables.max_polyphony - *sounding_at(at)));
    }

    // Whether any note may begin at a step: a quick room_at() > 0.
    bool has_room_at(int64_t at) const {
        if (*sounding_at(at) >= tables.max_polyphony) return false;
        const int16_t* longest = max_durations_at(at);
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
            bool is_enough = pitches(-1, room_after(step), loose, enough);
            std::memcpy(mask + v.pitch, is_enough ? enough : loose, PITCHES);
        }
        if (expects == Expects::duration) allow_durations(mask + v.duration);
        if (expects == Expects::first_velocity) std::memcpy(mask + v.velocity, tables.velocity_allowed, v.velocities);
    }

    int64_t room_after(int64_t at) const {
        int64_t total_room = 0;
        if (missing_notes() <= 1) return total_room;  // later steps need no room
        for (int64_t s = at + 1; s < tables.cell_end[cell]; s++) total_room += room_at(s);
        return total_room;
    }

    void allow_boundary(uint8_t* mask) const {
        const Vocabulary& v = vocabulary;
        const int64_t left = tables.max_tokens - used - tables.close_tokens[cell];
        bool is_any = false;
        if (left >= 5 && count < tables.max_notes[cell]) is_any = allow_onsets(mask);
        if (left >= 2 && may_change_velocity) {
            std::memcpy(mask + v.velocity, tables.velocity_allowed, v.velocities);
            mask[velocity] = 0;
            is_any |= std::any_of(mask + v.velocity, mask + v.velocity + v.velocities, [](uint8_t m) { return m; });
        }
        mask[v.end] = count >= tables.min_notes[cell] || !is_any;
        if (must_join_chord(mask)) {
            const int64_t start = tables.cell_start[cell] - tables.bar_start[cell];
            std::memset(mask + v.position + start, 0, tables.cell_end[cell] - tables.cell_start[cell]);
            mask[v.end] = 0;
        }
    }

    // Whether more notes must begin at the last note's step, for the minimum polyphony, and may.
    bool must_join_chord(const uint8_t* mask) const {
        if (!tables.min_polyphony || pitch < 0 || pitch >= PITCHES) return false;
        if (*sounding_at(step) >= tables.min_polyphony) return false;
        const uint8_t* open = mask + vocabulary.pitch;
        return std::any_of(open, open + PITCHES, [](uint8_t m) { return m; });
    }

    // Allow the steps and pitches that leave room for the missing notes, or all possible ones where none leaves room.
    bool allow_onsets(uint8_t* mask) const {
        const int64_t start = tables.cell_start[cell], width = tables.cell_end[cell] - start;
        uint8_t* at = mask + vocabulary.position + start - tables.bar_start[cell];
        uint8_t loose[PITCHES], enough[PITCHES];
        std::vector<uint8_t> steps_enough(width);
        bool is_enough = false;
        const bool is_missing = missing_notes() > 0;
        int64_t total_room = 0, later = 0;
        for (int64_t i = width - 1; i >= 0; i--) {
            const int64_t here = is_missing ? room_at(start + i) : has_room_at(start + i);
            if (start + i == step) later = total_room;
            total_room += here;
            at[i] = here > 0 && start + i > step && start + i < tables.last_end[cell];
            steps_enough[i] = at[i] && total_room >= missing_notes();
            is_enough |= steps_enough[i];
            if (start + i <= step) break;  // onsets never go back
        }
        if (step < start) later = total_room;
        is_enough |= pitches(pitch, later, loose, enough);
        if (is_enough) std::copy(steps_enough.begin(), steps_enough.end(), at);
        std::memcpy(mask + vocabulary.pitch, is_enough ? enough : loose, PITCHES);
        auto is_set = [](uint8_t m) { return m; };
        const uint8_t* chosen = mask + vocabulary.pitch;
        return std::any_of(at, at + width, is_set) || std::any_of(chosen, chosen + PITCHES, is_set);
    }

    // Write which pitches above one may begin at the row's step, and which of them leave room; return whether any does.
    bool pitches(int64_t above, int64_t later, uint8_t* loose, uint8_t* enough) const {
        std::memset(loose, 0, PITCHES);
        std::memset(enough, 0, PITCHES);
        if (above > 127 || step < 0) return false;
        const int64_t voices = tables.max_polyphony - *sounding_at(step);
        if (voices <= 0 || step >= tables.last_end[cell]) return false;
        const int16_t* longest = max_durations_at(step);
        bool is_enough = false;
        int64_t higher = 0;
        for (int64_t p = PITCHES - 1; p > above; p--) {
            if (longest[p] <= 0 || !allowed_pitches()[p]) continue;
            loose[p] = 1;
            enough[p] = std::min(higher, voices - 1) + later >= missing_notes() - 1;
            is_enough |= enough[p];
            higher++;
        }
        return is_enough;
    }

    void allow_durations(uint8_t* mask) const {
        const int16_t* voices = sounding_at(step);
        int64_t longest = std::min<int64_t>(max_durations_at(step)[pitch], tables.last_end[cell] - step);
        int64_t free = 0;
        while (free < longest && step + free < tables.horizon && voices[free] < tables.max_polyphony) free++;
        longest = std::min(longest, free);
        bool is_enough = false;
        for (int64_t d = 0; d < vocabulary.durations; d++) mask[d] = longest >= vocabulary.duration_steps[d];
        if (missing_notes() <= 1) return;
        std::vector<uint8_t> enough(vocabulary.durations);
        std::vector<int64_t> after = room_after_durations();
        for (int64_t d = 0; d < vocabulary.durations; d++) {
            const int64_t last = std::min(vocabulary.duration_steps[d] - 1, (int64_t)after.size() - 1);
            enough[d] = mask[d] && after[last] >= missing_notes() - 1;
            is_enough |= enough[d];
        }
        if (is_enough) std::copy(enough.begin(), enough.end(), mask);
    }

    // How many more notes would fit if the note at (step, pitch) lasted 1, 2, … steps.
    std::vector<int64_t> room_after_durations() const {
        const int16_t* longest = max_durations_at(step);
        int64_t higher = 0, free = 0;
        for (int64_t p = pitch + 1; p < PITCHES; p++) higher += longest[p] > 0 && allowed_pitches()[p];
        const int64_t here = std::min(higher, tables.max_polyphony - *sounding_at(step) - 1);
        std::vector<int64_t> lost{0};
        for (int64_t s = step + 1; s < tables.cell_end[cell]; s++) {
            const int64_t open = open_pitches(s), voices = tables.max_polyphony - *sounding_at(s);
            const bool is_taken = max_durations_at(s)[pitch] > 0 && allowed_pitches()[pitch];
            const int64_t now = std::min(open, std::max<int64_t>(0, voices));
            const int64_t under = std::min(open - is_taken, std::max<int64_t>(0, voices - 1));
            free += now;
            lost.push_back(lost.back() + now - under);
        }
        for (int64_t& l : lost) l = here + free - l;
        return lost;
    }
};

}  // namespace
