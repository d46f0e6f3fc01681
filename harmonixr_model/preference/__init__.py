"""The reward model and preference optimisation: features, heads, losses, metrics and reports."""
