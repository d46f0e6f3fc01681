"""Evaluate models and baselines on held-out music."""
