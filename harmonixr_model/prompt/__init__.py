"""The layout of prompt and fill: coordinates, similar passages, copy pointer and controls."""
