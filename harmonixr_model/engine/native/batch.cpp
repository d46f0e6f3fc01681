// Rows without attribute controls, decoded together several tokens a call: what `engine.row.Row` and
// `engine.batch.PythonBatch` do for them, without a return to Python after each token.

#include <algorithm>
#include <vector>

#include "model.h"
#include "sampling.h"

extern "C" {

// What all rows share. `places`: the bar, step and slot that each token sets, [vocabulary, 3], -1 where it sets none.
// `chunk`: the most tokens of a row that are fed in one step.
struct RowLayout {
    const int16_t* places;
    int64_t sep, end, eos, chunk;
};

// A new row. The caller owns what it points at.
struct RowStart {
    void *grammar, *pointers;
    uint32_t *prefix, *own;
    int64_t prefix_span, own_span, prefix_length;
    const int64_t *headers, *header_first;  // the forced tokens of all cells, and the first one of each cell
    int64_t cells;
    const double* uniforms;
    SamplingSettings settings;
    int64_t* tokens;  // output, with space for all tokens of the fill
};
}

namespace {

constexpr int COORDINATES = 3;  // bar, step and slot

struct Row {
    const RowStart start;
    const RowLayout& layout;
    int64_t length = 0, fed = 0, cell = 0, sampled = 0;
    int64_t coordinates[COORDINATES] = {}, previous = layout.sep;
    double log_probability = 0;

    Row(const RowStart& of, const RowLayout& by) : start(of), layout(by) { open_cell(); }

    bool is_finished() const { return cell == start.cells; }
    bool is_fed() const { return fed == length; }

    // Append the header of the next cell, or EOS after the last one.
    void open_cell() {
        if (is_finished()) {
            start.tokens[length++] = layout.eos;
            return;
        }
        const int64_t* first = start.headers + start.header_first[cell];
        const int64_t* last = start.headers + start.header_first[cell + 1];
        std::copy(first, last, start.tokens + length);
        length += last - first;
    }

    // Append a chunk of the pending tokens to `fed_tokens`.
    void feed(std::vector<Token>& fed_tokens, int64_t logits_row) {
        for (const int64_t stop = std::min(length, fed + layout.chunk); fed < stop; fed++) {
            const int64_t token = start.tokens[fed];
            for (int k = 0; k < COORDINATES; k++)
                if (const int16_t value = layout.places[token * COORDINATES + k]; value >= 0) coordinates[k] = value;
            fed_tokens.push_back({token, coordinates[0], coordinates[1], coordinates[2], previous, nullptr,
                                  start.prefix_length + fed, fed + 1 == length ? logits_row : -1, start.prefix,
                                  start.own, start.prefix_span, start.own_span, start.prefix_length, fed, fed + 1});
            previous = token;
        }
    }

    void sample(float* logits, int64_t stride, const double* gate) {
        SamplingSettings settings = start.settings;
        settings.uniform = start.uniforms[sampled++];
        void *grammar = start.grammar, *pointers = start.pointers;
        int64_t token;
        double probability;
        hx_sample(&grammar, &pointers, gate, 1, logits, stride, &settings, &token, &probability);
        log_probability += probability;
        start.tokens[length++] = token;
        if (token != layout.end) return;
        cell++;
        open_cell();
    }
};

// Memory that a thread reuses from one call to the next.
struct Scratch {
    std::vector<Token> tokens;
    std::vector<float> x, logits;
    std::vector<int64_t> order;
};

}  // namespace

extern "C" {

void* hx_row_open(const RowStart* start, const RowLayout* layout) { return new Row(*start, *layout); }

void hx_row_close(void* row) { delete (Row*)row; }

// Feed the pending tokens of every row and sample its next token, `max_tokens` times or until a row is finished. A row
// samples nothing while more than a chunk of its forced tokens is pending. Writes each row's number of tokens, its
// number of finished cells, and its log probability.
void hx_batch_step(const Model* model, void** rows, int64_t count, const double* gate, int64_t stride,
                   int64_t max_tokens, int64_t* lengths, int64_t* cells, double* log_probabilities) {
    thread_local Scratch scratch;
    auto row = [&](int64_t index) -> Row& { return *(Row*)rows[index]; };
    scratch.logits.resize(count * stride);
    scratch.order.resize(count);
    for (int64_t index = 0; index < count; index++) scratch.order[index] = index;
    // Tokens that share a prefix are neighbours: its keys and values are then read once for all of them.
    std::sort(scratch.order.begin(), scratch.order.end(), [&](int64_t a, int64_t b) {
        return std::make_pair(row(a).start.prefix, a) < std::make_pair(row(b).start.prefix, b);
    });
    for (bool is_finished = false; max_tokens > 0 && !is_finished; max_tokens--) {
        scratch.tokens.clear();
        for (int64_t index : scratch.order) row(index).feed(scratch.tokens, index);
        scratch.x.resize(scratch.tokens.size() * model->width);
        hx_forward(model, scratch.tokens.data(), (int64_t)scratch.tokens.size(), scratch.x.data(),
                   scratch.logits.data(), stride);
        for (int64_t index = 0; index < count; index++) {
            if (row(index).is_fed()) row(index).sample(&scratch.logits[index * stride], stride, gate);
            is_finished |= row(index).is_finished();
        }
    }
    for (int64_t index = 0; index < count; index++) {
        lengths[index] = row(index).length, cells[index] = row(index).cell;
        log_probabilities[index] = row(index).log_probability;
    }
}
}
