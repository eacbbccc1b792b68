# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Alembic's environment: the connection, and its open transaction, come from run.py."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
