"""A small stand-in for huggingface.co on localhost: model and data set repositories, each at pinned commits.

It serves a folder tree <models|datasets>/<owner>/<name>/<commit>/<files> and answers what `snapshot_download` asks: a
repository's commit, its list of files, and a file whole or from a byte on. As the hub does, it sends who asks for large
files (weights, tables) on to a file store, which is another host.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet")  # what is in the file store


class Hub:
    """The two servers; what is set changes how they answer, until `behave`."""

    def __init__(self, root: Path):
        self.root = root
        self.port = self.store_port = 0
        self.behave()
        self._open()

    def behave(self) -> None:
        """Answer everything as it should be, and forget what was asked."""
        self.requests: list[str] = []  # of both
        self.tokens: list[tuple[str, str]] = []  # the paths that were asked for with a login, and that login
        self.answers: list[tuple] = []  # status, content and perhaps headers that the next requests get instead
        self.gated: dict[str, int] = {}  # repositories whose files need a login, and the status without one
        self.cuts: list[int] = []  # bytes after which the connection breaks, of the next files from the store
        self.damaged: list[str] = []  # files whose next copy from the store has a flipped bit

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def folder(self, kind: str, repository: str, commit: str) -> Path:
        """A new folder whose files are those of the repository at the commit."""
        folder = self.root / kind / repository / commit
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def away(self) -> Iterator[None]:
        """Within the block nothing listens at the address."""
        self.close()
        try:
            yield
        finally:
            self._open()

    def close(self) -> None:
        for server, thread in self.servers:
            server.shutdown()
            server.server_close()
            thread.join()

    def _open(self) -> None:
        handler = type("HubAnswer", (Answer,), {"hub": self})
        self.servers = []
        for port in (self.port, self.store_port):
            server = ThreadingHTTPServer(("127.0.0.1", port), handler)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            self.servers.append((server, thread))
        self.port, self.store_port = (server.server_port for server, _ in self.servers)


def point_to(address: str, monkeypatch) -> None:
    """Have the hub's libraries ask at `address`, as they do with HF_ENDPOINT, which they read when imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Refusal(Exception):
    """An answer that is not what was asked for: the status, and the code that the hub's library tells apart."""

    def __init__(self, status: int, code: str):
        self.status, self.code = status, code


class Answer(BaseHTTPRequestHandler):
    """The answer to one request."""

    hub: Hub

    def do_GET(self):
        finders = {"api": self._api, "store": self._stored}
        self._answer(lambda parts: finders.get(parts[0], self._file)(parts))

    def do_HEAD(self):
        self._answer(self._file)

    def log_message(self, *_):
        pass

    def _answer(self, find):
        self.hub.requests.append(f"{self.command} {self.path}")
        if "Authorization" in self.headers:
            self.hub.tokens.append((self.path, self.headers["Authorization"]))
        if self.hub.answers:
            status, content, *headers = self.hub.answers.pop(0)
            return self._send(status, content, {"Content-Type": "text/html"} | dict(*headers))
        try:
            status, content, headers = find([unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")])
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.code}
            return self._send(refusal.status, json.dumps({"error": refusal.code}).encode(), headers)
        self._send(status, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.path.startswith("/store/") and self.hub.cuts:
            content, self.close_connection = content[: self.hub.cuts.pop(0)], True
        self.wfile.write(content)

    def _commit(self, kind: str, owner: str, name: str, commit: str) -> Path:
        repository = self.hub.root / kind / owner / name
        if not repository.is_dir():
            raise Refusal(404, "RepoNotFound")
        if not (repository / commit).is_dir():
            raise Refusal(404, "RevisionNotFound")
        return (repository / commit).resolve()  # of a branch: the commit that it is a link to

    def _api(self, parts: list[str]) -> tuple[int, bytes, dict[str, str]]:
        """/api/<kind>/<owner>/<name>/<revision|tree>/<commit>[/<folder>]"""
        if len(parts) < 6:
            raise Refusal(404, "EntryNotFound")
        _, kind, owner, name, endpoint, commit, *inner = parts
        folder = self._commit(kind, owner, name, commit)
        if endpoint == "revision":
            files = [{"rfilename": str(file.relative_to(folder))} for file in folder.rglob("*") if file.is_file()]
            values = {"id": f"{owner}/{name}", "sha": folder.name, "private": False, "tags": [], "siblings": files}
        elif endpoint == "tree":
            inside = folder.joinpath(*inner)
            if not inside.is_dir():
                raise Refusal(404, "EntryNotFound")
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() == "true"
            values = [_entry(path, folder) for path in sorted(inside.rglob("*") if recursive else inside.iterdir())]
        else:
            raise Refusal(404, "EntryNotFound")
        return 200, json.dumps(values).encode(), {"Content-Type": "application/json", "X-Repo-Commit": folder.name}

    def _file(self, parts: list[str]) -> tuple[int, bytes, dict[str, str]]:
        """[/datasets]/<owner>/<name>/resolve/<commit>/<path>"""
        kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        owner, name, _, commit, *inner = parts
        folder = self._commit(kind, owner, name, commit)
        file = folder.joinpath(*inner)
        if not file.is_file():
            raise Refusal(404, "EntryNotFound")
        status = self.hub.gated.get(f"{owner}/{name}")
        if status is not None and "Authorization" not in self.headers:
            raise Refusal(status, "GatedRepo")
        content = file.read_bytes()
        headers = {"X-Repo-Commit": folder.name, "Accept-Ranges": "bytes"}
        if file.suffix in LARGE:
            place = f"http://127.0.0.1:{self.hub.store_port}/store/{file.relative_to(self.hub.root)}"
            size, checksum = str(len(content)), hashlib.sha256(content).hexdigest()
            return 302, b"", headers | {"Location": place, "X-Linked-Size": size, "X-Linked-ETag": f'"{checksum}"'}
        return self._part(content, headers | {"ETag": f'"{_blob(content)}"'})

    def _stored(self, parts: list[str]) -> tuple[int, bytes, dict[str, str]]:
        """/store/<path below the root>"""
        file = self.hub.root.joinpath(*parts[1:])
        content = file.read_bytes()
        if file.name in self.hub.damaged:
            self.hub.damaged.remove(file.name)
            content = content[:-1] + bytes([content[-1] ^ 1])
        return self._part(content, {"ETag": '"of the store"', "Accept-Ranges": "bytes"})

    def _part(self, content: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """The contents, or the range of them that is asked for."""
        if "Range" not in self.headers:
            return 200, content, headers
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        end = int(first) + len(part) - 1
        return 206, part, headers | {"Content-Range": f"bytes {first}-{end}/{len(content)}"}


def _entry(path: Path, root: Path) -> dict:
    """A file or folder as the hub lists it."""
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "oid": _blob(name.encode()), "size": 0, "path": name}
    content = path.read_bytes()
    entry = {"type": "file", "oid": _blob(content), "size": len(content), "path": name}
    if path.suffix in LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _blob(content: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
