"""Parts of every model: attention with a KV cache, blocks, embeddings."""
