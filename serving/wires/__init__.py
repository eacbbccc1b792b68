"""One protocol, one file: each translates the same events of a run."""
