"""Where facts are kept: SQL on SQLite (embedded, the default) or PostgreSQL (by URL).

Owns: the tables, made from the record classes (`schema`), how a record becomes a row and back (`rows`), connections
and what their failures mean (`database`), the one transaction that writes (`sql_store`), what people look at
(`reads`), and how an older database becomes a newer one (`migrations`).
Does not own: any rule. It writes what control decided and says no only when the stored version is another one.
Invariants: a `Changes` is written wholly and durably, or not at all; a record read is equal to the record written;
usage records, charges, transfers, invoices and events are never altered (triggers refuse it); both databases order
text by its UTF-8 bytes, so that pages and prefixes are the same on both.
Text that a database cannot hold is mended rather than refused: U+0000 and lone surrogates become U+FFFD, both when
written and when asked for. The API refuses such input at the door; what still comes (a line of a job's output quoted
in a reason) must not keep the loop from writing down that the job ended.
To add a record class: a line in `schema.TABLES`, its indices in `schema.INDICES`, and a migration.
"""
