"""Examples: labelled sentences with their vectors, the cheap way to recognise an intent or a moderation category."""
