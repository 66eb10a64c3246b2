"""Long randomized tests, run by `make test-faults` alone; `QKD_FAULTS` multiplies their size."""
