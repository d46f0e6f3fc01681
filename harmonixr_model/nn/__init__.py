"""Parts that every model here is made of: attention with a cache, blocks, embeddings. Knows no task."""
