"""The first schema: conversations, runs, documents, their graph and their memory. Nothing came before it."""

revision = "0001"
down_revision = None
