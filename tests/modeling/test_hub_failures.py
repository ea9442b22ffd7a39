"""What a hub may answer beside what was asked for: it ends in success, or in one line that says what, where and what to
do; and what came damaged is never taken."""

import shutil
import time

import pytest
import yaml
from hub import Answer, Hub, point_to
from huggingface_hub.utils import close_session
from theseus_bench.commands import run
from tiny import write_checkpoint

COMMIT, NEWER = "1f" * 20, "2e" * 20
WHAT = f"theseus-bench: the hub did not give some/bert at {COMMIT[:8]}: "


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with the model some/bert; `waits` lists the seconds for which anything would have slept."""
    hub = Hub(tmp_path / "hub")
    write_checkpoint(hub.folder("models", "some/bert", COMMIT))
    point_to(hub.address, monkeypatch)
    hub.waits = []
    monkeypatch.setattr(time, "sleep", hub.waits.append)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    close_session()
    yield hub
    close_session()
    hub.close()


@pytest.fixture
def suite(tmp_path):
    """The folder of a suite whose backbone is that model."""
    return configure(tmp_path, {"backbone": {"source": "hub", "name": "some/bert", "revision": COMMIT, "layers": 4}})


def configure(folder, changes):
    values = {
        "suite": "fetched",
        "data": {"source": "demo", "rows": 16},
        "student_layers": 2,
        "tasks": ["rte"],
        "seeds": [1],
        "experiments": {"one": {"title": "One", "methods": ["finetune"]}},
    } | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    assert run(["configure", str(folder / "suite"), str(folder / "config.yaml")]) == 0
    return folder / "suite"


def assert_fetched(hub, suite) -> None:
    """The command succeeds, and the backbone is the hub's, bit by bit."""
    assert run(["backbone", str(suite)]) == 0
    origin = hub.root / "models" / "some" / "bert" / COMMIT
    for file in origin.iterdir():
        assert (suite / "backbone" / file.name).read_bytes() == file.read_bytes()


def complaint(suite, capsys, command="backbone", *arguments) -> str:
    """The one line of the command, which must fail and leave no file."""
    capsys.readouterr()
    assert run([command, str(suite), *arguments]) == 1
    assert [path.name for path in suite.rglob("*") if path.is_file()] == ["suite.json"]
    (line,) = capsys.readouterr().err.splitlines()
    return line


def weights_asked(hub) -> list[str]:
    return [asked for asked in hub.requests if asked.startswith("GET /store/")]


# --- a file store -----------------------------------------------------------------------------------------------------


def test_large_files_come_from_the_file_store_which_sees_no_login(hub, suite, tmp_path):
    (tmp_path / "token").write_text("hf_secret")
    assert_fetched(hub, suite)
    assert weights_asked(hub) == [f"GET /store/models/some/bert/{COMMIT}/model.safetensors"]
    assert {token for _, token in hub.tokens} == {"Bearer hf_secret"}
    assert not [path for path, _ in hub.tokens if path.startswith("/store/")]


def test_a_connection_that_is_cut_goes_on_where_it_was(hub, suite):
    hub.cuts = [1000, 500]
    assert_fetched(hub, suite)
    assert len(weights_asked(hub)) == 3
    assert hub.cuts == []


def test_a_connection_that_is_always_cut_is_told(hub, suite, capsys):
    hub.cuts = [0] * 100
    line = complaint(suite, capsys)
    assert line.startswith(f"{WHAT}the connection breaks (")
    assert line.endswith("); the same command goes on from what has come")
    hub.cuts, hub.requests = [], []
    assert_fetched(hub, suite)
    assert not [asked for asked in hub.requests if asked.endswith("config.json")], "that had come"


# --- contents ---------------------------------------------------------------------------------------------------------


def test_what_comes_damaged_is_fetched_again(hub, suite):
    hub.damaged = ["model.safetensors"]
    assert_fetched(hub, suite)
    assert len(weights_asked(hub)) == 2


def test_what_always_comes_damaged_is_refused(hub, suite, capsys):
    hub.damaged = ["model.safetensors"] * 100
    line = complaint(suite, capsys)
    assert line.startswith(
        f"theseus-bench: the hub did not give some/bert at {COMMIT[:8]}: model.safetensors comes with "
    )
    assert "check HF_ENDPOINT and the network" in line
    assert len(weights_asked(hub)) == 3


def test_a_small_file_that_the_cache_has_damaged_is_fetched_again(hub, suite, tmp_path):
    assert_fetched(hub, suite)
    (config,) = (tmp_path / "cache").glob("models--some--bert/snapshots/*/config.json")
    config.write_bytes(config.read_bytes().replace(b"4", b"5", 1))
    hub.requests = []
    other = tmp_path / "other"
    other.mkdir()
    assert_fetched(hub, configure(other, yaml.safe_load((tmp_path / "config.yaml").read_text())))
    assert weights_asked(hub) == [], "the weights were sound"


def test_what_is_in_the_cache_is_not_asked_for(hub, suite, tmp_path):
    assert_fetched(hub, suite)
    hub.requests = []
    other = tmp_path / "other"
    other.mkdir()
    assert_fetched(hub, configure(other, yaml.safe_load((tmp_path / "config.yaml").read_text())))
    assert hub.requests == []


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_is_told_with_where_its_terms_are(hub, suite, capsys, tmp_path, status):
    hub.gated = {"some/bert": status}
    line = complaint(suite, capsys)
    assert line == f"{WHAT}it is gated; accept its terms on {hub.address}/some/bert, and log in: hf auth login"
    (tmp_path / "token").write_text("hf_secret")
    assert_fetched(hub, suite)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (404, b"", {"X-Error-Code": "RepoNotFound"}),
            "there is no such model, or it is private; correct the name, or lo",
        ),
        ((401, b""), "access is refused (401); if you may read http://127.0.0.1:"),
        ((404, b"", {"X-Error-Code": "RevisionNotFound"}), f"it has no commit {COMMIT}; correct the revision"),
        ((404, b""), "it answers with 404; check HF_ENDPOINT (http://127.0.0.1:"),
        ((403, b""), "access is refused (403); if you may read http://127.0.0.1:"),
        ((451, b""), "it answers with 451; check HF_ENDPOINT"),
        ((200, b"<html>Accept the terms of this network.</html>"), "what answers at http://127.0.0.1:"),
        ((200, b"[]"), "what answers at http://127.0.0.1:"),
    ],
)
def test_a_refusal_says_what_to_do(hub, suite, capsys, answer, message):
    hub.answers = [answer] * 100
    assert complaint(suite, capsys).startswith(WHAT + message)
    assert hub.waits == [], "it would not become another"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_that_fails_is_asked_again(hub, suite, status):
    hub.answers = [(status, b"")] * 2
    assert_fetched(hub, suite)
    assert hub.waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (503, "it fails itself (503); wait, and the same command goes on from what has come"),
        (
            429,
            "it has had too many requests from here (429); wait, and the same command goes on from what has come; or ",
        ),
    ],
)
def test_a_hub_that_goes_on_failing_is_told(hub, suite, capsys, status, message):
    hub.answers = [(status, b"")] * 100
    assert complaint(suite, capsys).startswith(WHAT + message)


def test_a_hub_that_wants_a_pause_gets_it(hub, suite):
    hub.answers = [(429, b"", {"Retry-After": "7"}), (429, b"", {"Retry-After": "100000"})]
    assert_fetched(hub, suite)
    assert hub.waits == [7.0, 60.0]


@pytest.mark.parametrize("first", [2, 3, 5, 8])
@pytest.mark.parametrize("status", [403, 429, 500])
def test_a_hub_that_fails_in_the_middle_is_told(hub, suite, capsys, monkeypatch, first, status):
    """Whichever request meets it first: the one line, nothing left, and success once the hub is well again."""
    requests, ordinary = [], Answer._answer

    def answer(request, find):
        requests.append(request.path)
        return request._send(status, b"", {}) if len(requests) >= first else ordinary(request, find)

    monkeypatch.setattr(Answer, "_answer", answer)
    assert complaint(suite, capsys).startswith(WHAT)
    monkeypatch.setattr(Answer, "_answer", ordinary)
    assert_fetched(hub, suite)


@pytest.mark.parametrize("command", ["backbone", "fetch"])
def test_a_hub_out_of_reach_is_told_at_once(hub, tmp_path, capsys, command):
    line, name = with_nothing_in_the_cache(hub, tmp_path, capsys, command)
    assert line.startswith(
        f"theseus-bench: the hub did not give {name} at {COMMIT[:8]}: {hub.address} cannot be reached; "
    )
    assert line.endswith(
        "check the network, or bring the files where there is a network: theseus-bench prefetch CONFIG"
    )


@pytest.mark.parametrize("command", ["backbone", "fetch"])
def test_without_a_network_what_was_not_prefetched_is_named(hub, tmp_path, capsys, monkeypatch, command):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line, name = with_nothing_in_the_cache(hub, tmp_path, capsys, command)
    message = (
        f"theseus-bench: {name} at {COMMIT[:8]} is not whole in {tmp_path / 'cache'}, and HF_HUB_OFFLINE is set; bring "
    )
    assert line == f"{message}it where there is a network: theseus-bench prefetch CONFIG"


def with_nothing_in_the_cache(hub, folder, capsys, command) -> tuple[str, str]:
    """What a command says while nothing listens, and the repository that it wants; it waits for nothing."""
    changes = {
        "backbone": {"source": "hub", "name": "some/bert", "revision": COMMIT, "layers": 4},
        "data": {"source": "hub", "revision": COMMIT},
    }
    suite = configure(folder, changes)
    with hub.away():
        line = complaint(suite, capsys, command, *(["rte", str(suite / "source/rte")] if command == "fetch" else []))
    assert hub.waits == []
    return line, {"backbone": "some/bert", "fetch": "nyu-mll/glue"}[command]


def test_without_a_network_what_is_half_there_or_damaged_is_named(hub, suite, tmp_path, capsys, monkeypatch):
    assert_fetched(hub, suite)
    shutil.rmtree(suite / "backbone")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (weights,) = (tmp_path / "cache").glob("models--some--bert/snapshots/*/model.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = (
        f"theseus-bench: {weights.parent}: model.safetensors: damaged, as the checksum shows; bring it again where "
    )
    assert complaint(suite, capsys).startswith(message)
    weights.unlink()
    assert "some/bert at 1f1f1f1f is not whole in " in complaint(suite, capsys)


def test_a_full_disk_is_no_fault_of_the_hubs(hub, suite, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/cache/blob")

    monkeypatch.setattr("theseus_bench.modeling.hub.snapshot_download", full)
    assert complaint(suite, capsys) == "theseus-bench: /cache/blob: no space left on device; make room on the disk"
