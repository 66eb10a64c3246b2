"""Statevectors: fused gates, the steps between states, forward and backward sweeps, measurement."""
