"""Where a result comes from: code, libraries, processor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from theseus_bench import __version__

LIBRARIES = ["torch", "transformers", "tokenizers", "datasets", "evaluate", "textbrewer", "numpy", "scipy", "pandas"]


def provenance(root: Path = Path(".")) -> dict[str, Any]:
    """Versions, code revision and hardware, as they are now."""
    return {
        "theseus_bench": __version__,
        "code": code_revision(root),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "command": Path(sys.argv[0]).name + " " + " ".join(sys.argv[1:]),
    }


def code_revision(root: Path) -> str:
    """The project's commit, with '-dirty' where tracked files were edited; 'unknown' outside a git checkout.

    Records in git that were made again (results/reference) are results, and no edit of the code. Which of them a run
    went on from, a record's checksums of its inputs tell.
    """

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)

    try:
        head = git("rev-parse", "HEAD")
    except FileNotFoundError:
        return "unknown"
    if head.returncode:
        return "unknown"
    code = (":/", ":(top,exclude)results/reference")
    edits = git("status", "--porcelain", "--untracked-files=no", "--", *code).stdout.strip()
    return head.stdout.strip() + ("-dirty" if edits else "")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
