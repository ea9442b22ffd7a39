"""Faults in the files of a finished suite, each shown to whoever reads the file again, and to the next plan."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from outcomes import LOST, SURVIVED, WRONG, Outcomes
from theseus_bench.checksums import LIST, check_folder
from theseus_bench.data.encoding import open_split, summary
from theseus_bench.data.parquet import read_source
from theseus_bench.errors import UserError
from theseus_bench.evaluation.scores import read_scores
from theseus_bench.evaluation.significance_file import read_significance
from theseus_bench.evaluation.speed import read_speed
from theseus_bench.modeling.checkpoints import load_classifier, load_masked_lm
from theseus_bench.report.build import _figures
from theseus_bench.suite import result_files, status
from theseus_bench.suite.load import read_plan
from theseus_bench.suite.plan import Plan
from theseus_bench.suite.records import read_predictions, read_record
from theseus_bench.suite.search import read_choice
from theseus_bench.training.teacher_outputs import open_teacher_outputs
from theseus_bench.training.trainer_state import restore_state, save_state
from torch import nn

FAULTS = ("a flipped bit", "a flipped bit", "a flipped bit", "cut", "emptied", "deleted")  # as often as they stand here
SPLITS = ["validation", "test", "held_out"]


@dataclass(frozen=True)
class Kind:
    """Files of a suite that are read in one way."""

    name: str
    pattern: str  # of the files, in the suite's folder
    read: Callable[[Plan, Path], Any] | None = None  # the contents as a reader has them; None: nobody reads them again
    is_folder: bool = False  # whether the folder is what Snakemake knows, and not the file

    def files(self, suite: Path) -> list[Path]:
        """Those of the suite, with hidden lists of checksums; Snakemake's dates of folders are not ours."""
        files = [file for file in sorted(suite.glob(self.pattern)) if file.is_file()]
        return [file for file in files if file.name != ".snakemake_timestamp"]


def read_model(plan: Plan, file: Path) -> dict[str, torch.Tensor]:
    return load_classifier(file.parent, plan.tasks[file.parts[-4]]).state_dict()


def read_data(plan: Plan, file: Path) -> list[Any]:
    splits = [open_split(file.parent, split) for split in summary(file.parent)["splits"]]
    return [summary(file.parent)] + [array for split in splits for array in (split.tokens, split.rows)]


def read_tables(plan: Plan, file: Path) -> list[Any]:
    check_folder(file.parent)
    task = plan.tasks[file.parent.name]
    sources = {split: file.parent / f"{split}.parquet" for split in task.splits}
    return [read_source(source, task, split, True, False).to_pydict() for split, source in sources.items()]


def read_outputs(plan: Plan, file: Path) -> list[Any]:
    outputs = open_teacher_outputs(file.parent)
    return [outputs.logits, outputs.cls, outputs.layers]


def record_of(plan: Plan, file: Path) -> Any:
    record = read_record(file.parent, remember=False)
    return record and record.model_dump()


KINDS = [
    Kind("run.json", "runs/*/*/*/run.json", record_of),
    Kind("predictions", "runs/*/*/*/predictions.parquet", lambda plan, file: read_predictions(file.parent, SPLITS)),
    Kind("a run's model", "runs/*/*/*/model/*", read_model, True),
    Kind("backbone", "backbone/*", lambda plan, file: load_masked_lm(file.parent).state_dict(), True),
    Kind("compact checkpoint", "compact/*/*", lambda plan, file: load_masked_lm(file.parent).state_dict(), True),
    Kind("teacher outputs", "teacher/*/*/*/*", read_outputs, True),
    Kind("encoded data", "data/*/*", read_data, True),
    Kind("tables of sentences", "source/*/*", read_tables, True),
    Kind("search choice", "search/*/*.json", lambda plan, file: read_choice(file)),
    Kind("scores", "scores/*.parquet", lambda plan, file: read_scores(file.stem, file.parents[1])),
    Kind("scores as CSV", "scores/*.csv"),
    Kind("tests", "significance/*.json", lambda plan, file: read_significance(file.stem, file.parents[1])),
    Kind("speed", "speed/*.json", lambda plan, file: read_speed(file.stem, file.parents[1])),
    Kind("tables", "tables/*"),
    Kind("figures", "figures/*/*", lambda plan, file: _figures(file.parent.name, file.parents[2]), True),
    Kind("files for the server", "submissions/*/*", None, True),
    Kind("report", "report/*"),
    Kind("RO-Crate", "ro-crate-metadata.json"),
    Kind("suite.json", "suite.json", lambda plan, file: read_plan(file.parent).suite.model_dump()),
]


def inject_into_files(suite: Path, count: int, seed: int, outcomes: Outcomes) -> None:
    """Damage `count` files of the suite, one at a time, and mend each again by hand."""
    choose = random.Random(seed)
    plan = read_plan(suite)
    runs, experiments = list(plan.runs.values()), list(plan.suite.experiments)
    assert status.unsound(plan, runs, experiments, suite) == [], "the suite is not sound to begin with"
    for number in range(count):
        if number % (len(KINDS) + 1) == len(KINDS):
            _inject_into_checkpoint(suite.parent / "checkpoint", choose, outcomes)
            continue
        kind = KINDS[number % (len(KINDS) + 1)]
        file, fault = choose.choice(kind.files(suite)), choose.choice(FAULTS)
        before = _seen(kind, plan, file)
        with damage_for_a_while(file, fault, choose):
            after = _seen(kind, plan, file)
            unsound_paths = status.unsound(plan, runs, experiments, suite)
        relative = str(file.relative_to(suite))
        made_again = any(_is_made_with(relative, path) for path in unsound_paths)
        made_again |= kind.name == "suite.json" or (fault == "deleted" and not kind.is_folder)  # snakemake sees that
        outcome, note = judge(before, after, made_again, fault, file)
        outcomes.add(kind.name, fault, outcome, f"{relative}: {note}")


def _is_made_with(file: str, path: str) -> bool:
    """Whether the job that makes `path` again, as the plan has it, also makes the file: of its folder, run or list."""
    in_folder = file.startswith(f"{path.removesuffix('/run.json')}/")
    return file == path or in_folder or (file.endswith(LIST) and Path(file).parent == Path(path).parent)


def judge(before: str, after: str, made_again: bool, fault: str, file: Path) -> tuple[str, str]:
    """What came of a fault, by what was read before and after it, and whether the next plan makes the file again."""
    if after.startswith("traceback"):
        return LOST, after
    if after.startswith("refused") or after == "absent":
        names_it = after == "absent" or str(file.parent) in after
        return (SURVIVED, "") if made_again and names_it else (LOST, f"{after}; made again: {made_again}")
    if after != before:
        return WRONG, "another value was read"
    if before == "unread" and not made_again:
        return WRONG, "nothing says that the file is another one"
    return SURVIVED, ""


def _seen(kind: Kind, plan: Plan, file: Path) -> str:
    """A digest of what a reader has of the file, 'absent', 'unread', or how it is refused."""
    status._digest.cache_clear()  # each command is a process of its own
    result_files._parse.cache_clear()
    if kind.read is None:
        return "unread"
    try:
        value = kind.read(plan, file)
    except UserError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {error}"
    is_absent = value is None or (isinstance(value, dict | list) and not value)
    return "absent" if is_absent else digest(value)


def digest(value: Any) -> str:
    """A checksum of a value, of arrays by their bits."""
    return hashlib.sha256("\0".join(_words(value)).encode()).hexdigest()


def _words(value: Any) -> list[str]:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), str(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, dict):
        return [word for key, part in value.items() for word in [str(key), *_words(part)]]
    if isinstance(value, list | tuple):
        return [word for part in value for word in _words(part)]
    if hasattr(value, "to_csv"):
        return [value.to_csv()]
    return _words(vars(value)) if hasattr(value, "__dict__") and value.__dict__ else [repr(value)]


@contextmanager
def damage_for_a_while(file: Path, fault: str, choose: random.Random) -> Iterator[None]:
    """Within the block the file is damaged; its dates are as before, as after a fault of a disk."""
    stat, contents = file.stat(), file.read_bytes()
    damage(file, fault, choose)
    try:
        yield
    finally:
        file.write_bytes(contents)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def damage(file: Path, fault: str, choose: random.Random) -> None:
    """Flip a bit of the file, cut it somewhere, empty it or delete it; what is there keeps its dates."""
    stat, contents = file.stat(), bytearray(file.read_bytes())
    if fault == "deleted" or not contents:
        file.unlink()
        return
    place = choose.randrange(len(contents))
    if fault == "a flipped bit":
        contents[place] ^= 1 << choose.randrange(8)
    else:
        contents = contents[: 0 if fault == "emptied" else place]
    file.write_bytes(contents)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _inject_into_checkpoint(folder: Path, choose: random.Random, outcomes: Outcomes) -> None:
    """A training's state: what is damaged is set aside, so that the training begins anew."""
    folder.mkdir(exist_ok=True)
    file, fault = folder / "state.pt", choose.choice(FAULTS)
    parameters = [nn.Parameter(torch.arange(64.0))]
    optimizer = torch.optim.AdamW(parameters)
    save_state(file, parameters, optimizer, trainer={"step": 7})
    before = digest(restore_state(file, parameters, optimizer, torch.device("cpu")))
    damage(file, fault, choose)
    with redirect_stderr(StringIO()) as said:
        try:
            state = restore_state(file, parameters, optimizer, torch.device("cpu"))
        except Exception as error:
            outcomes.add("checkpoint", fault, LOST, f"{type(error).__name__}: {error}")
            return
    is_said = str(file) in said.getvalue() or fault == "deleted"
    outcome = WRONG if state is not None and digest(state) != before else SURVIVED if state or is_said else LOST
    outcomes.add("checkpoint", fault, outcome, said.getvalue())
    shutil.rmtree(folder)
