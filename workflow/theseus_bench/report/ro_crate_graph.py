"""An RO-Crate that grows: what is on disk, each thing once, and the actions that made it.

The library `rocrate` keeps the graph and its identifiers; here is what an entity of a suite says of itself: a file its
checksum and size, an action what it read and made and with which tool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

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
        self.places: dict[str, Entity] = {}  # what is on disk, by its path inside the suite's folder
        self.modified: dict[str, float] = {}  # seconds since 1970 of each, by @id
        self.actions: dict[str, list[Entity]] = {}  # by command
        self.tools: dict[str, dict[str, Entity]] = {}  # by command, then by @id

    def about(self, identifier: str, kind: str, /, **properties) -> Entity:
        """Something that is not a file, described once."""
        known = self.crate.get(identifier)
        return known or self.crate.add(ContextEntity(self.crate, identifier, {"@type": kind} | properties))

    def place(self, path: str, **properties) -> Entity | None:
        """The file or folder at a path inside the suite's folder; None if there is none."""
        where = self.folder / path
        if path not in self.places and where.is_file():
            properties = {"sha256": _sha256(where), "contentSize": str(where.stat().st_size)} | properties
            if where.suffix in FORMATS:
                properties["encodingFormat"] = FORMATS[where.suffix]
            self._keep(path, File(self.crate, dest_path=path, properties={"name": path} | properties), [where])
        elif path not in self.places and where.is_dir():
            inside = [file for file in where.iterdir() if file.is_file() and not file.name.startswith(".")]
            entity = Dataset(self.crate, dest_path=path, properties={"name": path} | properties)
            self._keep(path, entity, inside or [where])
        return self.places.get(path)

    def find(self, patterns: Iterable[str]) -> list[str]:
        """The paths that match the patterns, in the patterns' order."""
        found = [path for pattern in patterns for path in sorted(self.folder.glob(pattern))]
        return [str(path.relative_to(self.folder)) for path in found]

    def tool(self, command: str) -> Entity:
        """A command of theseus-bench, as it is now: the results do not say which revision of it made them."""
        about = {"softwareVersion": __version__, "identifier": self.revision}
        return self.about(f"#command/{command}", "SoftwareApplication", name=f"theseus-bench {command}", **about)

    def act(
        self,
        command: str,
        key: str,
        read: Iterable[str | Entity | None],
        made: Iterable[str],
        instruments: tuple[Entity, ...] = (),
        dated: bool = True,
        **properties,
    ) -> None:
        """A job of a command, unless nothing that it makes is there: paths (or entities) it `read`, paths it `made`.

        `instruments`: what did it, the tool first, where that is not the command itself. `properties` are the action's.
        """
        results = [entity for path in made if (entity := self.place(path)) is not None]
        if not results:
            return
        instruments = instruments or (self.tool(command),)
        times = {"endTime": iso_time(max(self.modified[entity.id] for entity in results))} if dated else {}
        about = {"@type": "CreateAction", "name": f"theseus-bench {command} {key}".rstrip()}
        about |= {"actionStatus": "http://schema.org/CompletedActionStatus"} | times | properties
        action = self.crate.add(ContextEntity(self.crate, f"#{command}/{key}".rstrip("/"), about))
        put(action, "instrument", instruments)
        put(action, "object", [self.place(item) if isinstance(item, str) else item for item in read])
        put(action, "result", results)
        self.actions.setdefault(command, []).append(action)
        self.tools.setdefault(command, {})[instruments[0].id] = instruments[0]

    def _keep(self, path: str, entity: Entity, files: list[Path]) -> None:
        self.places[path] = self.crate.add(entity)
        self.modified[entity.id] = max(file.stat().st_mtime for file in files)


def put(entity: Entity, key: str, values: Iterable[Entity | None]) -> None:
    """Let a property refer to those of the entities that are there: one alone as it is, as compacted JSON-LD has it."""
    there = [value for value in values if value is not None]
    if there:
        entity[key] = there[0] if len(there) == 1 else there


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
