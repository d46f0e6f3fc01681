"""Storage adapters: objects in files or on S3, and records in a Redis stream."""
