"""What a suite starts from: GLUE's tables, the backbone, and compact checkpoints, each put where the suite keeps it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from theseus_bench import demo, models, pretraining
from theseus_bench.data import concatenate, open_split
from theseus_bench.demo import generate
from theseus_bench.devices import choose_device, choose_precision, use_threads
from theseus_bench.errors import UserError
from theseus_bench.plan import Plan
from theseus_bench.pretraining import make_compact, make_demo_backbone
from theseus_bench.records import atomic, write_json
from theseus_bench.training import CHECKPOINTS, Machine, discard_checkpoint


def fetch_task(plan: Plan, task: str, output: Path) -> None:
    """Put a task's tables into the folder `output`, one parquet file a split."""
    data, wanted = plan.suite.data, plan.tasks[task]
    with atomic(output) as scratch:
        scratch.mkdir()
        if data.source == "demo":
            for split, frame in generate(wanted, data.rows).items():
                frame.to_parquet(scratch / f"{split}.parquet", index=False)
        else:
            with TemporaryDirectory() as cache:
                for split in wanted.splits:
                    table = _hub_split(data.name, data.revision, task, split, cache)
                    table.to_parquet(scratch / f"{split}.parquet")


def make_backbone(plan: Plan, folder: Path, checkpoint_every: float = 600.0) -> None:
    """Put the backbone into `folder`/backbone.

    Pretraining the demo's keeps its state every `checkpoint_every` seconds, and goes on from it after a stop.
    """
    backbone = plan.suite.backbone
    if backbone.source != "demo":
        models.fetch_checkpoint(backbone, folder / "backbone")
        return
    machine = _machine(plan, folder, checkpoint_every, backbone.model_dump_json())
    losses = make_demo_backbone(backbone.layers, backbone.steps, machine, folder / "backbone")
    write_json(folder / "backbone" / "source.json", backbone.model_dump(exclude_none=True) | {"losses": losses})
    discard_checkpoint(machine)


def make_compact_checkpoint(plan: Plan, method: str, folder: Path, checkpoint_every: float = 600.0) -> None:
    """Put the compact checkpoint of `method` into `folder`/compact/<method>.

    A recipe keeps its state every `checkpoint_every` seconds, and goes on from it after a stop.
    """
    compact, output = plan.suite.compact[method], folder / "compact" / method
    if compact.source == "hub":
        if compact.revision is None:
            raise UserError(
                f"config: compact.{method}: {compact.name} is not pinned, and a branch moves; set revision to the "
                "commit (40 digits) that the model's page on the hub gives, or make the checkpoint with source: recipe"
            )
        with atomic(output) as scratch:
            models.download(compact.name, compact.revision, scratch)
            models.check_same_vocabulary(scratch, folder / "backbone", compact.name)
            write_json(scratch / "source.json", compact.model_dump(exclude_none=True))
        return
    text = concatenate([open_split(folder / "data" / task, "train") for task in plan.trained_tasks])
    layers, backbone = plan.suite.student_layers, folder / "backbone"
    files = [_checksum(file) for file in sorted(backbone.iterdir()) if file.is_file()]
    words = [hashlib.sha256(array.tobytes()).hexdigest() for array in (text.tokens, text.rows)]
    machine = _machine(plan, folder, checkpoint_every, compact.model_dump_json(), str(layers), *files, *words)
    losses = make_compact(backbone, text, compact, layers, machine, output)
    write_json(output / "source.json", compact.model_dump(exclude_none=True) | {"losses": losses})
    discard_checkpoint(machine)


def _machine(plan: Plan, folder: Path, checkpoint_every: float, *read: str) -> Machine:
    """Where a pretraining computes; its checkpoint is named by all that its result depends on.

    That is the suite's `folder`, `read` (its settings, and checksums of the files), device, precision and the code.
    """
    use_threads(plan.suite.threads)
    device = choose_device(plan.suite.device)
    precision = choose_precision("auto", device)
    code = [_checksum(Path(module.__file__)) for module in (demo, pretraining)]
    parts = [str(folder.resolve()), device.type, precision, *code, *read]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    return Machine(device, precision, CHECKPOINTS / name, checkpoint_every)


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _hub_split(name: str, revision: str, task: str, split: str, cache: str | None = None):
    """A split of a data set on the hub.

    `cache` is a folder of this fetch's own: where the hub fails, `datasets` takes the latest tables that it finds in
    its cache, of whatever revision.
    """
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    if not sys.stderr.isatty():  # in a log they are noise
        disable_progress_bars()
    try:
        models.ask_hub(name, "dataset", revision)
        return load_dataset(name, task, revision=revision, split=split, cache_dir=cache)
    except (*models.HUB_ERRORS, DatasetsError, RuntimeError) as error:  # RuntimeError: a script instead of tables
        raise UserError(
            f"the hub did not give {name} ({task}, {split}) at {revision[:8]} ({type(error).__name__}); check the "
            "network, or use a local folder (data.source: local)"
        ) from None
