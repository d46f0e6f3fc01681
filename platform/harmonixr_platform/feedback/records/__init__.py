"""Immutable feedback records: written once, moved to the object store, read back, backed up and erased."""
