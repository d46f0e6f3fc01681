"""What listeners prefer: reward heads, their loss and their metrics."""
