"""What statevectors are made of: fused gates, the steps between states, the sweep there and back, the measurement."""
