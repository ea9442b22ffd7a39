"""Downloads from the hub: pinned, kept in the hub's own cache, and checked against the checksums that the hub gives.

The hub's library compares sizes alone. Its cache calls each file by the checksum that the hub gave: the SHA-256 of a
large one, git's id of any other. So what came damaged, or was damaged since, is known without asking again.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from huggingface_hub import HfApi, constants, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars, filter_repo_objects, httpx

from theseus_bench.errors import REMEDIES, UserError
from theseus_bench.suite.checkpoint_files import WEIGHTS, check_checkpoint_files

HUB_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]
INNER = "*/*"  # the files in a repository's folders: other formats of the same model
MAIN = "main"  # the branch of a checkpoint that is pinned by its contents
# What the hub's library raises: httpx's own errors as they are, what the hub answers, a name that no hub can have
# (ValueError), and whatever comes of taking apart an answer that is no hub's.
HUB_ERRORS = (OSError, ValueError, TypeError, AttributeError, LookupError, httpx.HTTPError)
HUB_PATIENCE = 10  # seconds for the first answer
TRIES = 3  # of a download that a busy hub refuses, or that came damaged
LONGEST_WAIT = 60.0  # seconds between two of them, whatever the hub asks for
LOG_IN = "log in: hf auth login"
LATER = "the same command goes on from what has come"
PREFETCH = "where there is a network: theseus-bench prefetch CONFIG"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Repository:
    """A repository on the hub at a commit, or a branch of it."""

    name: str
    kind: Literal["model", "dataset"]
    revision: str

    def __str__(self) -> str:
        return f"{self.name} at {self.revision[:8]}"

    @property
    def page(self) -> str:
        """The address of its page."""
        return f"{constants.ENDPOINT}/{'datasets/' * (self.kind == 'dataset')}{self.name}"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its path there, its bytes, and the checksum that the hub gives ('' where it gives none).

    The checksum is 'sha256:…' of the contents, or 'git:…', the id that git gives them.
    """

    name: str
    size: int
    checksum: str


def download(repository: Repository, folder: Path, sha256: str | None = None) -> str:
    """Copy a model into `folder`; the commit that it is of.

    UserError if the hub does not give it, or its weights have not the checksum given.
    """
    snapshot = fetch_snapshot(repository, HUB_FILES, [INNER])
    check_checkpoint_files(snapshot, str(repository))
    if sha256 is not None:
        check_weights(repository, _sha256(snapshot / WEIGHTS), sha256)
    folder.mkdir()
    for pattern in HUB_FILES:
        for file in snapshot.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    return snapshot.name


def check_weights(repository: Repository, sha256: str, pinned: str) -> None:
    """UserError unless the SHA-256 of a model's weights is the one that the configuration gives."""
    if sha256 != pinned:
        raise UserError(
            f"the {WEIGHTS} of {repository} has the sha256 {sha256}, the configuration says {pinned}; give the "
            "revision (a commit) that has the weights you mean, or correct sha256"
        )


def fetch_snapshot(repository: Repository, patterns: Sequence[str], without: Sequence[str] = ()) -> Path:
    """The folder, in the hub's cache, of a repository's files that match `patterns`, fetched if they are not there.

    With HF_HUB_OFFLINE set, or where all is there already, nothing is asked. Raises UserError if a file cannot be had,
    or has not the contents that the hub's checksum is of.
    """
    if not sys.stderr.isatty():  # in a log they are noise
        disable_progress_bars()
    for _ in range(TRIES):
        folder = _cached_snapshot(repository, patterns, without) or _load_snapshot(repository, patterns, without)
        damaged = [file for file in matching_files(folder, patterns, without) if not _is_sound(file)]
        if not damaged:
            return folder
        names = ", ".join(str(file.relative_to(folder)) for file in damaged)
        if constants.HF_HUB_OFFLINE:
            raise UserError(f"{folder}: {names}: damaged, as the checksum shows; bring it again {PREFETCH}")
        for file in damaged:
            file.resolve().unlink(missing_ok=True)
            file.unlink()
    raise UserError(
        f"the hub did not give {repository}: {names} comes with other contents than the hub's checksum is of; a "
        "proxy or mirror on the way damages it: check HF_ENDPOINT and the network, and call the same command again"
    )


def matching_files(folder: Path, patterns: Sequence[str], without: Sequence[str] = ()) -> list[Path]:
    """The files of a snapshot's folder that match, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if _matches(str(path.relative_to(folder)), patterns, without))


def list_files(repository: Repository, patterns: Sequence[str], without: Sequence[str] = ()) -> list[HubFile]:
    """What the hub says of the files of a repository that match; UserError if it cannot be asked."""
    return sorted(
        (
            HubFile(entry.path, entry.size, f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}")
            for entry in _ask(repository, lambda: _list_tree(repository))
            if _matches(entry.path, patterns, without)
        ),
        key=lambda file: file.name,
    )


def fetched_names(repository: Repository) -> list[str]:
    """The names of all files of a repository of which something has been fetched."""
    return [entry.path for entry in _tree_in_cache(repository) or []]


def describe_file(folder: Path, file: Path) -> HubFile:
    """A file of a snapshot, by the checksum of its contents."""
    return HubFile(str(file.relative_to(folder)), file.stat().st_size, f"sha256:{_sha256(file)}")


def _cached_snapshot(repository: Repository, patterns: Sequence[str], without: Sequence[str]) -> Path | None:
    """The folder of a snapshot in the cache that has all that matches; None where it is to be fetched."""
    offline, pinned = constants.HF_HUB_OFFLINE, re.fullmatch("[0-9a-f]{40}", repository.revision)
    if not offline and not pinned:  # a branch has moved perhaps
        return None
    try:
        folder = Path(_snapshot(repository, patterns, without, local_files_only=True))
        if _tree_in_cache(repository) is not None:  # without that nobody knows whether it is whole
            return folder
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:
        _refuse(repository, error)
    if offline:
        raise UserError(
            f"{repository} is not whole in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set; bring it {PREFETCH}"
        )
    return None


def _load_snapshot(repository: Repository, patterns: Sequence[str], without: Sequence[str]) -> Path:
    def load() -> str:
        # The library would go on asking for half a minute where there is no hub.
        HfApi().repo_info(
            repository.name, repo_type=repository.kind, revision=repository.revision, timeout=HUB_PATIENCE
        )
        return _snapshot(repository, patterns, without)

    return Path(_ask(repository, load))


def _snapshot(repository: Repository, patterns: Sequence[str], without: Sequence[str], **options: Any) -> str:
    return snapshot_download(
        repository.name,
        repo_type=repository.kind,
        revision=repository.revision,
        allow_patterns=list(patterns),
        ignore_patterns=list(without),
        **options,
    )


def _tree_in_cache(repository: Repository) -> list[RepoFile] | None:
    try:
        return get_cached_repo_tree(repository.name, repo_type=repository.kind, revision=repository.revision)
    except CachedRepoTreeNotFoundError:
        return None


def _list_tree(repository: Repository) -> list[RepoFile]:
    api = HfApi()
    api.repo_info(repository.name, repo_type=repository.kind, revision=repository.revision, timeout=HUB_PATIENCE)
    tree = api.list_repo_tree(repository.name, repo_type=repository.kind, revision=repository.revision, recursive=True)
    return [entry for entry in tree if isinstance(entry, RepoFile)]


def _ask(repository: Repository, call: Callable[[], Answer]) -> Answer:
    """What `call` gets from the hub, called again while the hub is busy; UserError if it gets nothing."""
    for wait in [float(2**number) for number in range(TRIES - 1)] + [None]:
        try:
            return call()
        except HUB_ERRORS as error:
            response = getattr(_cause(error), "response", None)
            status = getattr(response, "status_code", None)
            if wait is None or status is None or not (status == 429 or status >= 500):
                _refuse(repository, error)
            asked = response.headers.get("Retry-After", "")
            time.sleep(min(float(asked), LONGEST_WAIT) if asked.isdecimal() else wait)
    raise AssertionError("the last try returns or raises")


def _refuse(repository: Repository, error: Exception) -> NoReturn:
    """Raise the UserError that says why the hub did not give a repository, and what to do."""
    cause = _cause(error)
    if isinstance(cause, OSError) and cause.errno in REMEDIES:
        raise cause  # a full disk, a cache that is not ours: that is no fault of the hub's
    raise UserError(f"the hub did not give {repository}: {_explain(repository, cause)}") from None


def _explain(repository: Repository, error: BaseException) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return f"it is gated; accept its terms on {repository.page}, and {LOG_IN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such {repository.kind}, or it is private; correct the name, or {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no commit {repository.revision}; correct the revision"
    if status in (401, 403):
        return f"access is refused ({status}); if you may read {repository.page}, {LOG_IN}"
    if status == 429:
        return f"it has had too many requests from here (429); wait, and {LATER}; or {LOG_IN}, which allows more"
    if status is not None and status >= 500:
        return f"it fails itself ({status}); wait, and {LATER}"
    if status is not None:
        return f"it answers with {status}; check HF_ENDPOINT ({constants.ENDPOINT})"
    if isinstance(error, HFValidationError):
        return "no repository can have this name; write owner/name"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return f"{constants.ENDPOINT} cannot be reached; check the network, or bring the files {PREFETCH}"
    if isinstance(error, httpx.HTTPError) or "Consistency check failed" in str(error):
        return f"the connection breaks ({type(error).__name__}); {LATER}"
    return (
        f"what answers at {constants.ENDPOINT} is no hub ({type(error).__name__}); check the network, which may want a "
        "login, and HF_ENDPOINT"
    )


def _cause(error: BaseException) -> BaseException:
    """The error of the network or the hub for which the library gives another, that it found nothing in its cache."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _matches(name: str, patterns: Sequence[str], without: Sequence[str]) -> bool:
    return bool(list(filter_repo_objects([name], allow_patterns=list(patterns), ignore_patterns=list(without))))


def _is_sound(file: Path) -> bool:
    """Whether a file of the cache has the checksum by which it is called there; any other name says nothing."""
    checksum = file.readlink().name if file.is_symlink() else ""
    if re.fullmatch("[0-9a-f]{64}", checksum):
        return _sha256(file) == checksum
    if re.fullmatch("[0-9a-f]{40}", checksum):
        content = file.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == checksum
    return True


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
