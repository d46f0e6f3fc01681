"""Blind comparisons and judgments: the write path, listening studies, statistics and reports."""
