"""Scores as tokens: vocabulary, quantisation, encoded scores and score tokenizers."""
