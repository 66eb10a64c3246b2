"""Which engine answers, for which circuit, on which device."""
