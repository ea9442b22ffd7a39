"""A small stand-in for huggingface.co on localhost: model and data set repositories, each at pinned commits.

It serves a folder tree <models|datasets>/<owner>/<name>/<commit>/<files> and answers what `snapshot_download` and
`load_dataset` ask: a repository's commit, its list of files, some of its paths, and a file whole or from a byte on.
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


class Hub:
    """The server; `requests` lists what was asked of it, and `answers` what to say instead to the next requests."""

    def __init__(self, root: Path):
        self.root = root
        self.requests: list[str] = []
        self.answers: list[tuple[int, bytes]] = []
        self.port = 0
        self._open()

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
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _open(self) -> None:
        handler = type("HubAnswer", (Answer,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()


class Refusal(Exception):
    """An answer that is not what was asked for: the status, and the code that the hub's library tells apart."""

    def __init__(self, status: int, code: str):
        self.status, self.code = status, code


class Answer(BaseHTTPRequestHandler):
    """The answer to one request."""

    hub: Hub

    def do_GET(self):
        self._answer(lambda parts: self._api(parts) if parts[0] == "api" else self._file(parts))

    def do_HEAD(self):
        self._answer(self._file)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = parse_qs(body).get("paths", [])
        self._answer(lambda parts: self._api(parts, paths))

    def log_message(self, *_):
        pass

    def _answer(self, find):
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.hub.answers:
            status, content = self.hub.answers.pop(0)
            return self._send(status, content, {"Content-Type": "text/html"})
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
        if self.command != "HEAD":
            self.wfile.write(content)

    def _commit(self, kind: str, owner: str, name: str, commit: str) -> Path:
        repository = self.hub.root / kind / owner / name
        if not repository.is_dir():
            raise Refusal(404, "RepoNotFound")
        if not (repository / commit).is_dir():
            raise Refusal(404, "RevisionNotFound")
        return repository / commit

    def _api(self, parts: list[str], paths: list[str] | None = None) -> tuple[int, bytes, dict[str, str]]:
        """/api/<kind>/<owner>/<name>/<revision|tree|paths-info>/<commit>[/<folder>]"""
        if len(parts) < 6:
            raise Refusal(404, "EntryNotFound")
        _, kind, owner, name, endpoint, commit, *inner = parts
        folder = self._commit(kind, owner, name, commit)
        if endpoint == "revision":
            files = [{"rfilename": str(file.relative_to(folder))} for file in folder.rglob("*") if file.is_file()]
            values = {"id": f"{owner}/{name}", "sha": commit, "private": False, "tags": [], "siblings": files}
        elif endpoint == "tree":
            inside = folder.joinpath(*inner)
            if not inside.is_dir():
                raise Refusal(404, "EntryNotFound")
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() == "true"
            values = [_entry(path, folder) for path in sorted(inside.rglob("*") if recursive else inside.iterdir())]
        elif endpoint == "paths-info":
            values = [_entry(folder / path, folder) for path in paths if (folder / path).exists()]
        else:
            raise Refusal(404, "EntryNotFound")
        return 200, json.dumps(values).encode(), {"Content-Type": "application/json", "X-Repo-Commit": commit}

    def _file(self, parts: list[str]) -> tuple[int, bytes, dict[str, str]]:
        """[/datasets]/<owner>/<name>/resolve/<commit>/<path>"""
        kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        owner, name, _, commit, *inner = parts
        file = self._commit(kind, owner, name, commit).joinpath(*inner)
        if not file.is_file():
            raise Refusal(404, "EntryNotFound")
        content = file.read_bytes()
        headers = {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
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
    return {"type": "file", "oid": _blob(content), "size": len(content), "path": name}


def _blob(content: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
