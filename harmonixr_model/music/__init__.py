"""Music as values: reading, editing and writing it without loss, and hearing it."""
