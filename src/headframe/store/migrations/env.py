"""Run by Alembic: the steps, on the connection and in the transaction that `migrate` holds."""

from __future__ import annotations

from alembic import context

from headframe.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,
)
context.run_migrations()
