"""Typed calls and messages between the stages."""
