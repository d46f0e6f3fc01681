// The first id of each kind of token, and how many there are.
#pragma once

#include <cstdint>

extern "C" {

struct Vocabulary {
    int64_t size, position, positions, pitch, pitches, duration, durations, velocity, velocities, end;
    const int64_t* duration_steps;
};
}
