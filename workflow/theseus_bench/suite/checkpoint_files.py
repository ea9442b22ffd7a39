"""The files of a checkpoint as transformers saves it; who parses the workflow looks at them without importing it."""

from __future__ import annotations

from pathlib import Path

from theseus_bench.errors import UserError

WEIGHTS = "model.safetensors"
MODEL = [WEIGHTS, "config.json"]  # what of a model its students read


def check_checkpoint_files(folder: Path, name: str) -> None:
    """UserError, with the checkpoint's `name`, unless `folder` holds its configuration, and its weights in one file."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{name} holds no config.json; expected a transformers checkpoint")
    weights = sorted(file.name for file in folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{name} holds no safetensors weights; convert them first")
    if WEIGHTS not in weights:
        raise UserError(
            f"{name} holds {weights[0]} and no {WEIGHTS}: weights in parts or of another name are not read; save them "
            'in one file: model.save_pretrained(folder, max_shard_size="100GB")'
        )
