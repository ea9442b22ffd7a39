"""The `theseus-bench` command: it hands its arguments to a fork server, where there is one, or runs them itself.

A suite calls it hundreds of times. So nothing is imported here that handing over does not need.
"""

from __future__ import annotations

import os
import sys

from theseus_bench import preload


def main() -> None:
    """Run the command that the process's arguments name, and end with its exit code."""
    arguments = sys.argv[1:]
    code = preload.forward_command(arguments) if preload.SOCKET in os.environ else None
    if code is None:
        from theseus_bench.commands import run

        code = run(arguments)
    sys.exit(code)
