"""What the system knows: documents, passages, entities and facts with their sources."""
