"""The decoding step and the grammar in C++, compiled on this machine once and kept. Optional: all runs without."""
