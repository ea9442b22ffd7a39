"""What many tests read and none changes is made once; but for each test, while mutmut learns which test calls what."""

import os
from collections.abc import Callable
from functools import cache


def once(fixture_name: str, config) -> str:
    """The scope of such a fixture."""
    return "function" if _learning() else "session"


def remember(function: Callable) -> Callable:
    """The function with its results kept."""
    memo = cache(function)
    return lambda *arguments: (function if _learning() else memo)(*arguments)


def _learning() -> bool:
    return os.environ.get("MUTANT_UNDER_TEST") == "stats"
