"""Who thinks: one verb, one file, one prompt."""
