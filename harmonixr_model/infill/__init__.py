"""The infill transformer: it reads a song with a gap and writes what belongs there. Knows no files, no HTTP."""
