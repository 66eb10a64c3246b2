"""Toys of every extension point: one module each, and one line of a registry."""
