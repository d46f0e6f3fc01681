"""Blind comparisons and judgments: shown, recorded once, moved to objects, read back. Knows nothing of HTTP or Ray."""
