"""Downloads from the hub, each pinned to a commit."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import disable_progress_bars, httpx

from theseus_bench.errors import UserError
from theseus_bench.suite.checkpoint_files import check_checkpoint_files

HUB_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]
# What the hub's library raises: httpx's own errors as they are, what the hub answers, and a name that no hub can have
# or an answer that is no hub's (both ValueError).
HUB_ERRORS = (OSError, ValueError, httpx.HTTPError)
HUB_PATIENCE = 10  # seconds for the first answer


def download(repository: str, revision: str, folder: Path) -> None:
    """Copy a model repository at a pinned commit from the hub into `folder`; UserError if the hub does not give it."""
    if not sys.stderr.isatty():  # in a log they are noise
        disable_progress_bars()
    try:
        ask_hub(repository, "model", revision)
        snapshot_download(
            repository, revision=revision, local_dir=folder, allow_patterns=HUB_FILES, ignore_patterns="*/*"
        )
    except HUB_ERRORS as error:
        raise UserError(
            f"the hub did not give {repository} at {revision[:8]} ({type(error).__name__}); check the network and the "
            "name, or use a local folder (source: folder)"
        ) from None
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{repository} holds no safetensors weights at {revision[:8]}; choose a commit that has them")
    check_checkpoint_files(folder, f"{repository} at {revision[:8]}")
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def ask_hub(repository: str, kind: str, revision: str) -> None:
    """Ask once for a repository's commit, and raise one of HUB_ERRORS if the hub is out of reach or does not have it.

    The libraries would go on asking for half a minute. A hub that is there but busy is left to their patience.
    """
    try:
        HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=HUB_PATIENCE)
    except HfHubHTTPError as error:
        if error.response.status_code != 429 and error.response.status_code < 500:
            raise
