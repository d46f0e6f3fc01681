"""Measure fills on held-out music beside baselines."""
