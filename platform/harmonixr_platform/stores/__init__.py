"""Where things are kept: objects on files or S3, records in a Redis stream. Knows nothing of what they mean."""
