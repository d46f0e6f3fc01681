"""Corpora on disk, ingest, and the examples a model is trained on."""
