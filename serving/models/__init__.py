"""The doors to language models: one file per vendor or behaviour."""
