"""Listening studies: definitions, pairs, and the choice of each rater's next pair."""
