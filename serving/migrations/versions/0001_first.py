"""The first schema: conversations, runs, documents, their graph and their memory. Nothing came before it."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing: files begin here, and Postgres with revision 0003."""
