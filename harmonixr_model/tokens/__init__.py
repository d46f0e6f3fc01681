"""Scores as tokens: vocabulary, layout, grammar."""
