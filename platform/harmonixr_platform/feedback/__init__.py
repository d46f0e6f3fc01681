"""Pairs, comparisons and judgments: made, stored, moved and read back."""
