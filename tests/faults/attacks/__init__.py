"""What somebody who means harm would try, surface by surface, and what they are told.

Each attempt is one sentence of a table, and runs against the real thing. What tests elsewhere try already
is not tried again here: the table in docs/security.md names both.
"""
