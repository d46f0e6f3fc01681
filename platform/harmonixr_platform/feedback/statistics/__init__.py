"""Statistics of judgments: strengths, intervals, agreement and rater quality."""
