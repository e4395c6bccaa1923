"""What somebody who means harm would try, surface by surface, and what they are told.

Each attempt is one sentence, and runs against the real thing. One that is data is a file, in a folder of its
kind (written.py); one that takes code is a row of a table. What tests elsewhere try already is not tried here
again: the table in docs/security.md names both.
"""
