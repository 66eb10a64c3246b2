"""Device runs: what they cost, how they are mitigated, sent, kept and read."""
