"""Constraints, and the tables and state machines that make every fill valid."""
