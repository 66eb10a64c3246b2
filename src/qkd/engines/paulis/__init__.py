"""What operators are made of in the Pauli basis: channels, light cones, and coefficients that are carried back."""
