"""All that a suite has from the hub, fetched at once where there is a network, so that its jobs need none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from huggingface_hub import constants

from theseus_bench.modeling import hub
from theseus_bench.modeling.hub import HubFile, Repository
from theseus_bench.suite.checkpoint_files import WEIGHTS
from theseus_bench.suite.plan import Plan
from theseus_bench.training.hub_sources import CARD, compact_repository, table_files

MEGABYTE = 10**6


@dataclass(frozen=True)
class Download:
    """Files of one repository that a key of the configuration asks for."""

    key: str
    repository: Repository
    tasks: tuple[str, ...] = ()  # of a data set: those whose tables are asked for
    sha256: str | None = None  # of a model's weights, where the configuration gives it


def prefetch_downloads(plan: Plan) -> Iterator[str]:
    """Fetch all of them into the hub's cache; lines that list each file with its size and checksum."""
    yield from _report(plan, _fetch, f"in {constants.HF_HUB_CACHE}; with HF_HUB_OFFLINE=1 jobs need no network")


def list_downloads(plan: Plan) -> Iterator[str]:
    """The same lines, of what would be fetched; of a small file the hub has git's id, and no SHA-256."""
    yield from _report(plan, _list, f"would be in {constants.HF_HUB_CACHE}")


def _report(plan: Plan, files_of: Callable[[Plan, Download], list[HubFile]], where: str) -> Iterator[str]:
    downloads, sizes = _downloads(plan), []
    for download in downloads:
        files = files_of(plan, download)
        yield f"{download.key}: {download.repository.name} at {download.repository.revision}"
        yield from (f"  {file.size:>13,}  {file.checksum}  {file.name}" for file in files)
        sizes += [file.size for file in files]
    for method in _unpinned(plan):
        yield f"compact.{method}: not pinned, so not fetched; set its revision or its sha256"
    if downloads:
        yield f"{len(sizes)} files, {sum(sizes) / MEGABYTE:,.1f} MB, {where}"
    else:
        yield "nothing of this suite comes from the hub"


def _downloads(plan: Plan) -> list[Download]:
    suite, downloads = plan.suite, []
    if suite.data.source == "hub":
        repository = Repository(suite.data.name, "dataset", suite.data.revision)
        downloads.append(Download("data", repository, tasks=tuple(suite.tasks)))
    if suite.backbone.source == "hub":
        downloads.append(Download("backbone", Repository(suite.backbone.name, "model", suite.backbone.revision)))
    for method in _compact_methods(plan):
        if method not in _unpinned(plan):
            sha256 = suite.compact[method].sha256
            downloads.append(Download(f"compact.{method}", compact_repository(plan, method), sha256=sha256))
    return downloads


def _compact_methods(plan: Plan) -> list[str]:
    """The methods of the suite's runs whose compact checkpoint is on the hub."""
    methods = {run.spec.name for run in plan.runs.values()}
    return [name for name, compact in plan.suite.compact.items() if compact.source == "hub" and name in methods]


def _unpinned(plan: Plan) -> list[str]:
    compact = plan.suite.compact
    return [name for name in _compact_methods(plan) if compact[name].revision is None and compact[name].sha256 is None]


def _fetch(plan: Plan, download: Download) -> list[HubFile]:
    patterns, without = _patterns(plan, download)
    folder = hub.fetch_snapshot(download.repository, patterns, without)
    files = [hub.describe_file(folder, file) for file in hub.matching_files(folder, patterns, without)]
    _check(download, files)
    return files


def _list(plan: Plan, download: Download) -> list[HubFile]:
    files = hub.list_files(download.repository, *_patterns(plan, download))
    _check(download, files)
    return files


def _patterns(plan: Plan, download: Download) -> tuple[list[str], list[str]]:
    """Which files, and which of these not."""
    if download.repository.kind == "model":
        return hub.HUB_FILES, [hub.INNER]
    files = [table_files(download.repository, plan.tasks[name]) for name in download.tasks]
    return [CARD, *(file for splits in files for names in splits.values() for file in names)], []


def _check(download: Download, files: list[HubFile]) -> None:
    """UserError unless weights whose checksum the configuration gives have it."""
    if download.sha256 is not None:
        weights = [file.checksum.removeprefix("sha256:") for file in files if file.name == WEIGHTS]
        hub.check_weights(download.repository, weights[0] if weights else "none", download.sha256)
