"""What can be concluded from judgments: strengths, intervals, agreement, quality. Knows no store, no HTTP, no music."""
