"""Variants of the model and of the corpus for experiments; a job file selects them, and nothing serves them."""
