"""What is fetched from the hub, against a stand-in on localhost: the pinned files and no others, or one line that says
why not, and nothing half-written."""

import hashlib
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
from theseus_bench.locks import LOCKS
from tiny import ROOT, WORDS, write_checkpoint
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertTokenizer

TASKS = load_tasks(ROOT / "config" / "tasks.yaml")
COMMAND = Path(sys.executable).with_name("theseus-bench")
COMMIT, OLDER, SCRIPT, ABSENT = ("1f" * 20, "2e" * 20, "3d" * 20, "4c" * 20)


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
        student = write_checkpoint(hub.folder("models", "some/student", COMMIT), "distilbert", layers=2)
        (student.parent / "main").symlink_to(COMMIT)
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
    hub.behave()

    def make(data=COMMIT, name="some/bert", revision=COMMIT, layers=4, compact="some/student", pin=None) -> Path:
        values = {
            "suite": "fetched",
            "data": {"source": "hub", "revision": data},
            "backbone": {"source": "hub", "name": name, "revision": revision, "layers": layers},
            "compact": {"distilbert": {"source": "hub", "name": compact} | (pin or {"revision": COMMIT})},
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
    paths = [path for path in folder.rglob("*") if path.is_file() or path.name.startswith(".")]
    return sorted(path for path in paths if LOCKS not in path.relative_to(folder).parts)


def refusal(environment, *arguments) -> str:
    """What a command says that must fail: one line, and its suite's folder holds what it held."""
    folder = arguments[1]
    before = contents(folder)
    process = run(environment, *arguments)
    assert process.returncode == 1, process.stderr
    assert process.stderr.startswith("theseus-bench: ")
    assert process.stderr.count("\n") == 1, process.stderr
    assert contents(folder) == before
    return process.stderr.removeprefix("theseus-bench: ").rstrip()


def frames_of(suite: Path, task: str) -> dict[str, pd.DataFrame]:
    files = sorted((suite / "source" / task).glob("*.parquet"))
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
    hub.answers += [(403, b"")] * 100  # there, but unwilling
    message = refusal(environment, "fetch", folder, "rte", target)
    assert message.startswith(f"the hub did not give nyu-mll/glue at {OLDER[:8]}: access is refused (403)")
    hub.answers.clear()
    assert run(environment, "fetch", folder, "rte", target).returncode == 0
    pd.testing.assert_frame_equal(frames_of(folder, "rte")["train"], tables("rte", 10)["train"])


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        (ABSENT, f"the hub did not give nyu-mll/glue at {ABSENT[:8]}: it has no commit {ABSENT}; correct the revision"),
        (SCRIPT, f"nyu-mll/glue at {SCRIPT[:8]} has no tables of rte, by its card (known: none); choose a revision "),
    ],
    ids=["absent", "script"],
)
def test_a_commit_without_the_tables_is_named(suite, environment, revision, message):
    folder = suite(data=revision)
    assert refusal(environment, "fetch", folder, "rte", folder / "source" / "rte").startswith(message)


def test_a_task_that_the_data_set_does_not_have_is_named(suite, environment):
    folder = suite()
    message = refusal(environment, "fetch", folder, "cola", folder / "source" / "cola")
    assert message.startswith(
        f"nyu-mll/glue at {COMMIT[:8]} has no tables of cola, by its card (known: ax, mnli, rte, st"
    )


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_a_backbone_is_fetched_with_where_it_came_from(suite, environment, hub):
    folder = suite()
    process = run(environment, "backbone", folder)
    assert process.returncode == 0, process.stderr
    backbone = folder / "backbone"
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json"}
    own_files = {"made_from.json", ".sha256"}  # what it was made of, by contents
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
        ({"name": "old/bert"}, f"old/bert at {COMMIT[:8]} holds no safetensors weights; convert them first"),
        ({"revision": ABSENT}, f"the hub did not give some/bert at {ABSENT[:8]}: it has no commit {ABSENT}; correct"),
        ({"name": "no/bert"}, f"the hub did not give no/bert at {COMMIT[:8]}: there is no such model, or it is priv"),
        ({"name": "a/b/c"}, f"the hub did not give a/b/c at {COMMIT[:8]}: no repository can have this name; write "),
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


def sha256_of_student(hub) -> str:
    weights = hub.root / "models" / "some" / "student" / COMMIT / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.parametrize("revision", [{}, {"revision": COMMIT}], ids=["branch", "commit"])
def test_a_compact_checkpoint_is_pinned_by_its_contents(suite, environment, hub, revision):
    folder = suite(pin={"sha256": sha256_of_student(hub)} | revision)
    assert run(environment, "backbone", folder).returncode == 0
    process = run(environment, "compact", folder, "distilbert")
    assert process.returncode == 0, process.stderr
    source = json.loads((folder / "compact" / "distilbert" / "source.json").read_text())
    assert (source["revision"], source["sha256"]) == (COMMIT, sha256_of_student(hub))


def test_a_compact_checkpoint_of_other_contents_is_refused(suite, environment, hub):
    folder = suite(pin={"sha256": "0" * 64})
    assert run(environment, "backbone", folder).returncode == 0
    message = refusal(environment, "compact", folder, "distilbert")
    assert message.startswith(
        f"the model.safetensors of some/student at main has the sha256 {sha256_of_student(hub)}, the "
    )


def test_a_compact_checkpoint_that_nothing_pins_is_not_fetched(suite, environment, hub):
    folder = suite(pin={"steps": 1})
    assert run(environment, "backbone", folder).returncode == 0
    hub.behave()
    message = refusal(environment, "compact", folder, "distilbert")
    assert message.startswith(
        "config: compact.distilbert: some/student is not pinned, and a branch moves; set revision to "
    )
    assert hub.requests == []


# --- all at once, and then without a network ------------------------------------------------------------------------


def prefetch(environment, configuration: Path, *options) -> str:
    process = run(environment, "prefetch", configuration, *options)
    assert process.returncode == 0, process.stderr
    return process.stdout


def sizes_and_checksums(output: str) -> dict[str, tuple[int, str]]:
    """Size and checksum of each file that prefetch lists, by its name."""
    lines = [line.split() for line in output.splitlines() if line.startswith(" ")]
    return {name: (int(size.replace(",", "")), checksum) for size, checksum, name in lines}


@pytest.fixture
def elsewhere(environment, tmp_path):
    """The environment, with an empty cache of the hub's."""
    elsewhere = environment | {"HF_HOME": str(tmp_path / "home")}
    del elsewhere["THESEUS_BENCH_PRELOAD"]  # whose processes have the other cache
    return elsewhere


def test_what_was_prefetched_is_there_without_a_network(suite, elsewhere, hub, tmp_path):
    folder = suite()
    output = prefetch(elsewhere, tmp_path / "config.yaml")
    origin = hub.root / "models" / "some" / "bert" / COMMIT
    weights = (origin / "model.safetensors").read_bytes()
    assert f"backbone: some/bert at {COMMIT}\n" in output
    assert f"  {len(weights):>13,}  sha256:{hashlib.sha256(weights).hexdigest()}  model.safetensors\n" in output
    names = {"README.md", *(f"rte/{split}-00000-of-00001.parquet" for split in TASKS["rte"].splits)}
    assert names <= set(sizes_and_checksums(output))
    assert not [name for name in sizes_and_checksums(output) if name.startswith(("mnli", "stsb", "coreml"))]
    assert output.splitlines()[-1].endswith(
        f"in {tmp_path / 'home' / 'hub'}; with HF_HUB_OFFLINE=1 jobs need no network"
    )
    offline = elsewhere | {"HF_HUB_OFFLINE": "1"}
    steps = [f"fetch {folder} rte {folder}/source/rte", f"backbone {folder}", f"compact {folder} distilbert"]
    hub.behave()
    with hub.away():
        commands = " && ".join(f"{COMMAND} {step}" for step in steps)
        process = run(offline, "with-preload", "sh", "-c", commands, timeout=300)
        assert process.returncode == 0, process.stderr
        assert prefetch(offline, tmp_path / "config.yaml") == output
    assert hub.requests == []
    for split, frame in frames_of(folder, "rte").items():
        pd.testing.assert_frame_equal(frame, tables("rte", 20)[split])
    assert (folder / "backbone" / "model.safetensors").read_bytes() == weights
    student = hub.root / "models" / "some" / "student" / COMMIT
    assert (folder / "compact/distilbert/model.safetensors").read_bytes() == (
        student / "model.safetensors"
    ).read_bytes()


def test_what_a_prefetch_would_bring_is_listed(suite, elsewhere, hub, tmp_path):
    suite()
    dry = prefetch(elsewhere, tmp_path / "config.yaml", "--dry-run")
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    real = prefetch(elsewhere, tmp_path / "config.yaml")
    assert {name: size for name, (size, _) in sizes_and_checksums(dry).items()} == {
        name: size for name, (size, _) in sizes_and_checksums(real).items()
    }
    large = {
        name: checksum for name, (_, checksum) in sizes_and_checksums(dry).items() if checksum.startswith("sha256:")
    }
    assert "model.safetensors" in large
    assert large.items() <= {name: checksum for name, (_, checksum) in sizes_and_checksums(real).items()}.items()


def test_what_the_command_line_says_is_prefetched(suite, environment, hub, tmp_path):
    suite()
    output = prefetch(
        environment, tmp_path / "config.yaml", "--config", "tasks=[mnli, ax]", "data={max_train: {mnli: 20}}"
    )
    names = {f"{name}/{split}-00000-of-00001.parquet" for name in ("mnli", "ax") for split in TASKS[name].splits}
    assert names <= set(sizes_and_checksums(output))
    assert not [name for name in sizes_and_checksums(output) if name.startswith("rte")]


def test_what_nothing_pins_is_named_and_not_prefetched(suite, elsewhere, hub, tmp_path):
    suite(pin={"steps": 1})
    output = prefetch(elsewhere, tmp_path / "config.yaml", "--config", "data={source: demo, rows: 16}")
    assert "compact.distilbert: not pinned, so not fetched; set its revision or its sha256\n" in output
    assert not [asked for asked in hub.requests if "student" in asked]


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_prefetch_refuses_other_contents_than_are_pinned(suite, elsewhere, hub, tmp_path, options):
    folder = suite(pin={"sha256": "0" * 64})
    process = run(
        elsewhere, "prefetch", tmp_path / "config.yaml", *options, "--config", "data={source: demo, rows: 16}"
    )
    assert process.returncode == 1
    assert f"the model.safetensors of some/student at main has the sha256 {sha256_of_student(hub)}" in process.stderr
    assert contents(folder) == [folder / "suite.json"]
