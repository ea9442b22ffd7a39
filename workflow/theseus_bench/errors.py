"""The one exception that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. Its text, shown without a traceback, says what is wrong, where and what to do."""
