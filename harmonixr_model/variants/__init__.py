"""Model and data variants that experiments compare with the main path. Nothing that is served uses them."""
