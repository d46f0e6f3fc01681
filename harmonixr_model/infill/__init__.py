"""The infill transformer: it reads a song with a gap and generates the notes of the gap."""
