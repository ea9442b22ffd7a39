"""How long a fixture lives that many tests read and none changes."""

import os


def once(fixture_name: str, config) -> str:
    """For all tests; but for each test its own while mutmut learns which test calls what."""
    return "function" if os.environ.get("MUTANT_UNDER_TEST") == "stats" else "session"
