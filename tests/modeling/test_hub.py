"""What is fetched from the hub, against a stand-in on localhost: the pinned files and no others, or one line that says
why not, and nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from hub import Hub
from theseus_bench.data.parquet import read_source
from theseus_bench.data.synthetic import generate
from theseus_bench.data.tasks import load_tasks
from tiny import ROOT, WORDS, write_checkpoint
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertTokenizer

TASKS = load_tasks(ROOT / "config" / "tasks.yaml")
COMMAND = Path(sys.executable).with_name("theseus-bench")
COMMIT, OLDER, SCRIPT, ABSENT = ("1f" * 20, "2e" * 20, "3d" * 20, "4c" * 20)
AT_ONCE = 20  # seconds; the hub's libraries alone would go on asking an absent hub for longer


def tables(task: str, rows: int) -> dict[str, pd.DataFrame]:
    return generate(TASKS[task], rows)


def write_glue(folder: Path, rows: int) -> None:
    """The data set's repository as the real one is: tables by configuration, and a card that says which is which."""
    configs, infos = [], []
    for name in ("rte", "mnli", "stsb", "ax"):
        task = TASKS[name]
        (folder / name).mkdir()
        for split, frame in tables(name, rows).items():
            frame.to_parquet(folder / name / f"{split}-00000-of-00001.parquet", index=False)
        files = [{"split": split, "path": f"{name}/{split}-*"} for split in task.splits]
        configs.append({"config_name": name, "data_files": files})
        names = {str(code): label for code, label in enumerate(task.labels or [])}
        features = [{"name": column, "dtype": "string"} for column in task.columns]
        features += [{"name": "label", "dtype": {"class_label": {"names": names}} if names else "float32"}]
        features += [{"name": "idx", "dtype": "int32"}]
        sizes = [{"name": s, "num_bytes": 1, "num_examples": len(f)} for s, f in tables(name, rows).items()]
        infos.append({"config_name": name, "features": features, "splits": sizes})
    card = yaml.safe_dump({"license": "other", "configs": configs, "dataset_info": infos}, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{card}---\n# GLUE\n")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs\n")


def write_vocabulary(folder: Path, words: list[str]) -> None:
    BertTokenizer(vocab={word: code for code, word in enumerate(words)}).save_pretrained(folder)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The hub, with the models some/bert, some/student (of its vocabulary), other/student, and more, and GLUE."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        bert = write_checkpoint(hub.folder("models", "some/bert", COMMIT))
        (bert / "README.md").write_text("# A model\n")
        (bert / "pytorch_model.bin").write_bytes(b"pickled")
        (bert / "modeling.py").write_text("raise SystemExit('run')\n")
        (bert / "coreml" / "inner").mkdir(parents=True)
        (bert / "coreml" / "inner" / "Manifest.json").write_text("{}")
        (bert / "coreml" / "model.safetensors").write_bytes(b"")
        write_checkpoint(hub.folder("models", "some/student", COMMIT), "distilbert", layers=2)
        other = write_checkpoint(hub.folder("models", "other/student", COMMIT), "distilbert", layers=2)
        write_vocabulary(other, [*WORDS, "crow"])
        bare = write_checkpoint(hub.folder("models", "bare/student", COMMIT), "distilbert", layers=2)
        (bare / "config.json").write_text('{"model_type": "teapot"}')
        for file in bare.glob("*token*"):
            file.unlink()
        old = write_checkpoint(hub.folder("models", "old/bert", COMMIT))
        (old / "model.safetensors").rename(old / "pytorch_model.bin")
        write_glue(hub.folder("datasets", "nyu-mll/glue", COMMIT), rows=20)
        write_glue(hub.folder("datasets", "nyu-mll/glue", OLDER), rows=10)
        script = hub.folder("datasets", "nyu-mll/glue", SCRIPT)
        (script / "glue.py").write_text("raise SystemExit('run')\n")
        (script / "README.md").write_text("# GLUE\n")
        yield hub
    finally:
        hub.close()


@pytest.fixture(scope="module")
def environment(hub, tmp_path_factory):
    """Where `theseus-bench` finds the hub. A fork server imports the libraries once, with HF_ENDPOINT in sight."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    environment = variables | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    command = [COMMAND, "with-preload", "sh", "-c", "echo $THESEUS_BENCH_PRELOAD; read end"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as parent:
        yield environment | {"THESEUS_BENCH_PRELOAD": parent.stdout.readline().strip()}
        parent.stdin.close()


@pytest.fixture
def suite(environment, hub, tmp_path):
    """`suite(**changes)` writes the folder of a suite whose every source is on the hub, with some keys changed."""
    hub.requests.clear()
    hub.answers.clear()

    def make(data: str = COMMIT, name: str = "some/bert", revision=COMMIT, layers=4, compact="some/student") -> Path:
        values = {
            "suite": "fetched",
            "data": {"source": "hub", "revision": data},
            "backbone": {"source": "hub", "name": name, "revision": revision, "layers": layers},
            "compact": {"distilbert": {"source": "hub", "name": compact, "revision": COMMIT}},
            "student_layers": 2,
            "tasks": ["rte"],
            "seeds": [1],
            "experiments": {"one": {"title": "One", "methods": ["distilbert"]}},
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        folder = tmp_path / "results"
        assert run(environment, "configure", folder, tmp_path / "config.yaml").returncode == 0
        return folder

    return make


def run(environment, *arguments, timeout: float = 120) -> subprocess.CompletedProcess:
    command = [COMMAND, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def contents(folder: Path) -> list[Path]:
    """All files in the folder, and the hidden folders in which things are written before they are moved."""
    return sorted(path for path in folder.rglob("*") if path.is_file() or path.name.startswith("."))


def refusal(environment, *arguments, timeout: float = 120) -> str:
    """What a command says that must fail: one line, and its suite's folder holds what it held."""
    folder = arguments[1]
    before = contents(folder)
    process = run(environment, *arguments, timeout=timeout)
    assert process.returncode == 1, process.stderr
    assert process.stderr.startswith("theseus-bench: ")
    assert process.stderr.count("\n") == 1, process.stderr
    assert contents(folder) == before
    return process.stderr.removeprefix("theseus-bench: ").rstrip()


def frames_of(suite: Path, task: str) -> dict[str, pd.DataFrame]:
    files = sorted((suite / "source" / task).iterdir())
    return {file.stem: pq.read_table(file).to_pandas() for file in files}


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnli", "stsb", "ax"])
def test_every_split_of_a_task_is_fetched_as_it_is(suite, environment, name):
    folder = suite()
    process = run(environment, "fetch", folder, name, folder / "source" / name)
    assert process.returncode == 0, process.stderr
    frames, expected = frames_of(folder, name), tables(name, 20)
    assert frames.keys() == expected.keys() == set(TASKS[name].splits)
    for split, frame in expected.items():
        pd.testing.assert_frame_equal(frames[split], frame)
        read_source(folder / "source" / name / f"{split}.parquet", TASKS[name], split, sample=True, verify=False)


def test_the_pinned_tables_are_fetched_whatever_was_fetched_before(suite, environment, hub):
    folder = suite()
    target = folder / "source" / "rte"
    assert run(environment, "fetch", folder, "rte", target).returncode == 0
    suite(data=OLDER)
    hub.answers += [(503, b"")] + [(403, b"")] * 100  # there, but unwilling
    assert refusal(environment, "fetch", folder, "rte", target).startswith("the hub did not give nyu-mll/glue")
    assert len(hub.answers) < 100  # it was asked for more than whether it is there
    hub.answers.clear()
    assert run(environment, "fetch", folder, "rte", target).returncode == 0
    pd.testing.assert_frame_equal(frames_of(folder, "rte")["train"], tables("rte", 10)["train"])


@pytest.mark.parametrize(
    ("revision", "reason"), [(ABSENT, "RevisionNotFoundError"), (SCRIPT, "RuntimeError")], ids=["absent", "script"]
)
def test_a_commit_without_the_tables_is_named(suite, environment, revision, reason):
    folder = suite(data=revision)
    message = refusal(environment, "fetch", folder, "rte", folder / "source" / "rte")
    assert message.startswith(
        f"the hub did not give nyu-mll/glue (rte, train) at {revision[:8]} ({reason}); check the "
    )


def test_a_task_that_the_data_set_does_not_have_is_named(suite, environment):
    folder = suite()
    message = refusal(environment, "fetch", folder, "cola", folder / "source" / "cola")
    assert message.startswith(f"the hub did not give nyu-mll/glue (cola, train) at {COMMIT[:8]} (")


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_a_backbone_is_fetched_with_where_it_came_from(suite, environment, hub):
    folder = suite()
    process = run(environment, "backbone", folder)
    assert process.returncode == 0, process.stderr
    backbone = folder / "backbone"
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json"}
    own_files = {"made_from.json"}  # what it was made of, by contents
    assert {str(path.relative_to(backbone)) for path in backbone.rglob("*")} == files | own_files
    origin = hub.root / "models" / "some" / "bert" / COMMIT
    assert all((backbone / name).read_bytes() == (origin / name).read_bytes() for name in files - {"source.json"})
    source = json.loads((backbone / "source.json").read_text())
    assert {key: source[key] for key in ("source", "name", "revision")} == {
        "source": "hub",
        "name": "some/bert",
        "revision": COMMIT,
    }
    assert not [request for request in hub.requests if request.endswith((".py", ".bin", ".md", "Manifest.json"))]
    assert AutoModelForSequenceClassification.from_pretrained(backbone).config.num_hidden_layers == 4
    assert len(AutoTokenizer.from_pretrained(backbone)) == len(WORDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 6}, "backbone: some/bert has 4 layers, the configuration says 6"),
        ({"name": "old/bert"}, f"old/bert holds no safetensors weights at {COMMIT[:8]}"),
        ({"revision": ABSENT}, f"the hub did not give some/bert at {ABSENT[:8]} (RevisionNotFoundError)"),
        ({"name": "no/bert"}, f"the hub did not give no/bert at {COMMIT[:8]} (RepositoryNotFoundError)"),
        ({"name": "a/b/c"}, f"the hub did not give a/b/c at {COMMIT[:8]} (HFValidationError)"),
    ],
    ids=["layers", "weights", "revision", "repository", "name"],
)
def test_a_backbone_that_is_not_what_it_should_be_is_refused(suite, environment, changes, message):
    assert refusal(environment, "backbone", suite(**changes)).startswith(message)


def test_a_compact_checkpoint_has_the_backbones_vocabulary(suite, environment):
    folder = suite()
    assert run(environment, "backbone", folder).returncode == 0
    process = run(environment, "compact", folder, "distilbert")
    assert process.returncode == 0, process.stderr
    checkpoint = folder / "compact" / "distilbert"
    assert AutoModelForSequenceClassification.from_pretrained(checkpoint).config.n_layers == 2
    assert json.loads((checkpoint / "source.json").read_text())["revision"] == COMMIT
    assert not (checkpoint / ".cache").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other/student", f"other/student: its vocabulary ({len(WORDS) + 1} tokens) is not the backbone's"),
        ("bare/student", "bare/student has no tokenizer"),
    ],
)
def test_a_compact_checkpoint_of_another_vocabulary_is_refused(suite, environment, name, message):
    folder = suite(compact=name)
    assert run(environment, "backbone", folder).returncode == 0
    assert refusal(environment, "compact", folder, "distilbert").startswith(message)


# --- a hub out of reach ---------------------------------------------------------------------------------------------


def test_a_hub_out_of_reach_is_told_at_once(suite, environment, hub):
    folder = suite()
    with hub.away():
        message = refusal(environment, "fetch", folder, "rte", folder / "source" / "rte", timeout=AT_ONCE)
        assert message.startswith(f"the hub did not give nyu-mll/glue (rte, train) at {COMMIT[:8]} (ConnectError)")
        message = refusal(environment, "backbone", folder, timeout=AT_ONCE)
        assert message.startswith(f"the hub did not give some/bert at {COMMIT[:8]} (ConnectError)")
    assert hub.requests == []


def test_a_page_that_is_no_hubs_is_told_in_one_line(suite, environment, hub):
    folder = suite()
    hub.answers += [(200, b"<html>Accept the terms of this network to go on.</html>")]
    assert refusal(environment, "backbone", folder).startswith("the hub did not give some/bert")


def test_a_busy_hub_is_asked_again(suite, environment, hub):
    folder = suite()
    hub.answers += [(503, b"")]
    assert run(environment, "backbone", folder).returncode == 0
