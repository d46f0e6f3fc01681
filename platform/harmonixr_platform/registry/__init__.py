"""Model versions and the aliases that put them into service."""
