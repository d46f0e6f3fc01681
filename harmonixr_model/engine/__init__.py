"""Decode fills with a model, many at a time."""
