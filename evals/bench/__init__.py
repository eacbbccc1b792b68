"""Measurements: what Parley does, how fast, at what cost."""
