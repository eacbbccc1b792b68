"""How the one SQLite file of an earlier Parley becomes one of this: Alembic's revisions."""
