"""Listening studies: their definition, their pairs, and which pair a rater hears next."""
