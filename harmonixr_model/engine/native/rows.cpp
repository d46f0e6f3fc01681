// Rows of which nothing but notes is asked, stepped together several tokens at a call: what `engine.row.Row` and
// `engine.batch.Batch` do for them, without coming back to Python between two tokens. Knows no weights and no grammar.

#include <algorithm>
#include <vector>

#include "draw.h"
#include "step.h"

extern "C" {

// What all rows share: what each token makes of bar, step and slot, [vocabulary, 3] (-1: it keeps them), and the tokens
// that mean something here. `chunk`: how many tokens of a row may be fed at once.
struct Saying {
    const int16_t* places;
    int64_t sep, end, eos, chunk;
};

// A row as it begins; what it points at is owned by whoever made it.
struct Start {
    void *grammar, *pointers;
    uint32_t *prefix, *own;
    int64_t prefix_span, own_span, prefix_length;
    const int64_t *headers, *header_first;  // the forced tokens of all cells, and where those of each begin
    int64_t cells;
    const double* uniforms;
    Settings settings;
    int64_t* said;  // room for all it may say
};
}

namespace {

constexpr int KEPT = 3;

struct Row {
    const Start start;
    const Saying& saying;
    int64_t said = 0, fed = 0, cell = 0, drawn = 0;
    int64_t kept[KEPT] = {}, previous = saying.sep;  // kept: bar, step and slot
    double log_probability = 0;

    Row(const Start& of, const Saying& by) : start(of), saying(by) { open_cell(); }

    bool is_finished() const { return cell == start.cells; }
    bool is_fed() const { return fed == said; }

    void open_cell() {
        if (is_finished()) {
            start.said[said++] = saying.eos;
            return;
        }
        const int64_t *first = start.headers + start.header_first[cell], *last = start.headers + start.header_first[cell + 1];
        std::copy(first, last, start.said + said);
        said += last - first;
    }

    // Put what was said and not read yet behind `tokens`, a chunk at most.
    void feed(std::vector<Token>& tokens, int64_t place) {
        for (const int64_t stop = std::min(said, fed + saying.chunk); fed < stop; fed++) {
            const int64_t token = start.said[fed];
            for (int k = 0; k < KEPT; k++)
                if (const int16_t value = saying.places[token * KEPT + k]; value >= 0) kept[k] = value;
            tokens.push_back({token, kept[0], kept[1], kept[2], previous, nullptr, start.prefix_length + fed,
                              fed + 1 == said ? place : -1, start.prefix, start.own, start.prefix_span, start.own_span,
                              start.prefix_length, fed, fed + 1});
            previous = token;
        }
    }

    void draw(float* logits, int64_t stride, const double* gate) {
        Settings settings = start.settings;
        settings.uniform = start.uniforms[drawn++];
        void *grammar = start.grammar, *pointers = start.pointers;
        int64_t token;
        double probability;
        hx_choose(&grammar, &pointers, gate, 1, logits, stride, &settings, &token, &probability);
        log_probability += probability;
        start.said[said++] = token;
        if (token != saying.end) return;
        cell++;
        open_cell();
    }
};

// What a step is made in, kept by the thread from one call to the next.
struct Bench {
    std::vector<Token> tokens;
    std::vector<float> x, logits;
    std::vector<int64_t> order;
};

}  // namespace

extern "C" {

void* hx_row_open(const Start* start, const Saying* saying) { return new Row(*start, *saying); }

void hx_row_close(void* row) { delete (Row*)row; }

// Feed every row what it has said since and draw its next token, `most` times or until a row is finished. A row with many
// forced tokens draws nothing until all are fed. Writes of each row how much it has said, in how many whole cells, and its
// log probability.
void hx_rows_step(const Model* model, void** rows, int64_t count, const double* gate, int64_t stride, int64_t most,
                  int64_t* said, int64_t* cells, double* log_probabilities) {
    thread_local Bench bench;
    auto row = [&](int64_t place) -> Row& { return *(Row*)rows[place]; };
    bench.logits.resize(count * stride);
    bench.order.resize(count);
    for (int64_t place = 0; place < count; place++) bench.order[place] = place;
    // Tokens that share a prefix stand together: it is then read once for all of them.
    std::sort(bench.order.begin(), bench.order.end(),
              [&](int64_t a, int64_t b) { return std::make_pair(row(a).start.prefix, a) < std::make_pair(row(b).start.prefix, b); });
    for (bool is_over = false; most > 0 && !is_over; most--) {
        bench.tokens.clear();
        for (int64_t place : bench.order) row(place).feed(bench.tokens, place);
        bench.x.resize(bench.tokens.size() * model->width);
        hx_step(model, bench.tokens.data(), (int64_t)bench.tokens.size(), bench.x.data(), bench.logits.data(), stride);
        for (int64_t place = 0; place < count; place++) {
            if (row(place).is_fed()) row(place).draw(&bench.logits[place * stride], stride, gate);
            is_over |= row(place).is_finished();
        }
    }
    for (int64_t place = 0; place < count; place++) {
        said[place] = row(place).said, cells[place] = row(place).cell;
        log_probabilities[place] = row(place).log_probability;
    }
}
}
