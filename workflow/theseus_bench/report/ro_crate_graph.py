"""An RO-Crate that grows: what is on disk, each thing once, and the actions that made it.

The library `rocrate` keeps the graph and its identifiers; here is what an entity of a suite says of itself: a file its
checksum and size, an action what it read and made and with which tool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity, Dataset, Entity, File
from rocrate.rocrate import ROCrate

from theseus_bench import __version__
from theseus_bench.suite.provenance import code_revision

TERMS = "https://w3id.org/ro/terms/workflow-run/context"  # of sha256, which RO-Crate 1.1 does not have
FORMATS = {
    "": "text/plain",  # the Snakefile
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".safetensors": "application/octet-stream",
    ".smk": "text/plain",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".zip": "application/zip",
}


class ProvenanceGraph:
    """A crate that grows: entities of what is on disk, each once, and the actions that made them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(TERMS)
        self.revision = code_revision(Path("."))
        self.path_entities: dict[str, Entity] = {}  # what is on disk, by its path inside the suite's folder
        self.modified: dict[str, float] = {}  # seconds since 1970 of each, by @id
        self.actions: dict[str, list[Entity]] = {}  # by command
        self.tools: dict[str, dict[str, Entity]] = {}  # by command, then by @id

    def add_entity(self, identifier: str, kind: str, /, **properties: Any) -> Entity:
        """Something that is not a file, described once."""
        entity = self.crate.get(identifier)
        return entity or self.crate.add(ContextEntity(self.crate, identifier, {"@type": kind} | properties))

    def add_path(self, path: str, **properties: Any) -> Entity | None:
        """The file or folder at a path inside the suite's folder; None if there is none."""
        on_disk = self.folder / path
        if path not in self.path_entities and on_disk.is_file():
            properties = {"sha256": _sha256(on_disk), "contentSize": str(on_disk.stat().st_size)} | properties
            if on_disk.suffix in FORMATS:
                properties["encodingFormat"] = FORMATS[on_disk.suffix]
            self._keep(path, File(self.crate, dest_path=path, properties={"name": path} | properties), [on_disk])
        elif path not in self.path_entities and on_disk.is_dir():
            files = [file for file in on_disk.iterdir() if file.is_file() and not file.name.startswith(".")]
            entity = Dataset(self.crate, dest_path=path, properties={"name": path} | properties)
            self._keep(path, entity, files or [on_disk])
        return self.path_entities.get(path)

    def find_paths(self, patterns: Iterable[str]) -> list[str]:
        """The paths that match the patterns, in the patterns' order."""
        paths = [path for pattern in patterns for path in sorted(self.folder.glob(pattern))]
        return [str(path.relative_to(self.folder)) for path in paths]

    def command_tool(self, command: str) -> Entity:
        """A command of theseus-bench, as it is now: the results do not say which revision of it made them."""
        properties = {"softwareVersion": __version__, "identifier": self.revision}
        return self.add_entity(
            f"#command/{command}", "SoftwareApplication", name=f"theseus-bench {command}", **properties
        )

    def add_action(
        self,
        command: str,
        key: str,
        inputs: Iterable[str | Entity | None],
        outputs: Iterable[str],
        instruments: tuple[Entity, ...] = (),
        dated: bool = True,
        **properties: Any,
    ) -> None:
        """A job of a command, unless nothing that it makes is there: `inputs` are paths or entities, `outputs` paths.

        `instruments`: what did it, the tool first, where that is not the command itself. `properties` are the action's.
        """
        results = [entity for path in outputs if (entity := self.add_path(path)) is not None]
        if not results:
            return
        instruments = instruments or (self.command_tool(command),)
        times = {"endTime": iso_time(max(self.modified[entity.id] for entity in results))} if dated else {}
        description = {"@type": "CreateAction", "name": f"theseus-bench {command} {key}".rstrip()}
        description |= {"actionStatus": "http://schema.org/CompletedActionStatus"} | times | properties
        action = self.crate.add(ContextEntity(self.crate, f"#{command}/{key}".rstrip("/"), description))
        set_references(action, "instrument", instruments)
        set_references(action, "object", [self.add_path(item) if isinstance(item, str) else item for item in inputs])
        set_references(action, "result", results)
        self.actions.setdefault(command, []).append(action)
        self.tools.setdefault(command, {})[instruments[0].id] = instruments[0]

    def _keep(self, path: str, entity: Entity, files: list[Path]) -> None:
        self.path_entities[path] = self.crate.add(entity)
        self.modified[entity.id] = max(file.stat().st_mtime for file in files)


def set_references(entity: Entity, key: str, values: Iterable[Entity | None]) -> None:
    """Let a property refer to those of the entities that are there: one alone as it is, as compacted JSON-LD has it."""
    existing = [value for value in values if value is not None]
    if existing:
        entity[key] = existing[0] if len(existing) == 1 else existing


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
