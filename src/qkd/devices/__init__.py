"""Devices: what they are, how good they were when calibrated, and what a student circuit becomes on them."""
