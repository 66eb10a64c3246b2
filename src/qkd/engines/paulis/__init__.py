"""Operators in the Pauli basis: channels, light cones, and coefficients that are carried backward."""
