"""Size and speed of the models as tables: each shape beside the published speed-ups, and every single measurement."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from theseus_bench.evaluation.speed import (
    DEVICES,
    DeviceSize,
    Shape,
    SpeedResults,
    Timing,
    read_speed,
    reported_speedup,
)
from theseus_bench.suite.plan import Plan, label_of_name
from theseus_bench.suite.published import Paper, SpeedLine, cite_speed, paper_with_speed
from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.wording import NOT_MEASURED, count_noun, series

UNKNOWN = "not known: there is no run"


def speed_tables(plan: Plan, experiment: str, folder: Path) -> dict[str, Table]:
    """The experiment's tables speed (one row a shape) and timings (one row a shape, device, length and batch size).

    Without rows where nothing was measured.
    """
    speed, title = read_speed(experiment, folder), plan.suite.experiments[experiment].title
    paper = paper_with_speed()
    return {"speed": _sizes(plan, experiment, speed, paper, title), "timings": _timings(plan, speed, title)}


def conditions(speed: SpeedResults, device: str) -> str:
    """Under which conditions the speed-ups of the reference size were measured on a device, in words."""
    size = speed.reference_size.model_copy(update={"device": device})
    timing = speed.shapes[0].timing(size)
    times = f", median of {timing.rounds} rounds with its 95 % interval" if timing else ""
    return (
        f"a forward pass of {count_noun(size.batch_size, 'sequence')} of {size.length} tokens on "
        f"{_hardware(speed, device)}{times}"
    )


def _sizes(plan: Plan, experiment: str, speed: SpeedResults | None, paper: Paper | None, title: str) -> Table:
    shapes = speed.shapes if speed else []
    devices = list(speed.devices) if speed else []
    length = speed.reference_size.length if speed else 0
    rows = []
    if speed:
        rows += [_size_row(speed, shape, label, paper) for shape, label in zip(shapes, _labels(shapes), strict=True)]
    measured_names = {name for shape in shapes for name in shape.methods}
    unmeasured_names = [
        name
        for name in plan.experiment_names(experiment)
        if shapes and name not in measured_names and plan.run(name, plan.trained_tasks[0], 0).spec.compressed
    ]
    gaps = [Cell(None, notes=(NOT_MEASURED,))] * len(devices)
    gaps += [Cell(None, notes=(UNKNOWN,))] * (5 if paper else 3)
    rows += [Row(label_of_name(plan, name), tuple(gaps), (name, "")) for name in unmeasured_names]
    reported_columns = [Column("printed", "Printed", ("×",), decimals=2), Column("line", "Line", ("×",), decimals=2)]
    columns = (
        *(
            Column(f"speedup_{name}", "Speed-up", ("×", DEVICES[name]), decimals=2, fields=("low", "high"))
            for name in devices
        ),
        *(reported_columns if paper else []),
        Column("parameters_millions", "Params", ("millions", "no embeddings"), decimals=max(1, _decimals(rows, -3))),
        Column("embedding_millions", "Embeddings", ("millions",), decimals=max(1, _decimals(rows, -2))),
        Column("flops", "FLOPs", (f"{length} tokens",), powers=True),
    )
    caption = "Size of each shape of model, its speed-up over the predecessor, and the published one."
    notes = _notes(plan, speed, paper) if speed else ()
    return Table(title, caption, columns, tuple(rows), notes, stub="Model", identity=("methods", "layers"))


def _size_row(speed: SpeedResults, shape: Shape, label: str, paper: Paper | None) -> Row:
    flops = shape.flops.get(str(speed.reference_size.length))
    without_embeddings = shape.parameters - shape.embedding_parameters
    cells = []
    for device in speed.devices:
        size = speed.reference_size.model_copy(update={"device": device})
        timing = shape.timing(size)
        cells.append(_speedup_cell(timing, _missing_reason(speed, size)))
    if paper and paper.speed:
        cells += _reported_cells(shape, speed.shapes[0], paper, paper.speed.line)
    cells += [
        Cell(without_embeddings / 1e6),
        Cell(shape.embedding_parameters / 1e6),
        Cell(None, notes=(_missing_reason(speed, speed.reference_size),)) if flops is None else Cell(float(flops)),
    ]
    identity = "; ".join(shape.methods), str(shape.layers)
    return Row(label, tuple(cells), identity, "teacher" if shape is speed.shapes[0] else "")


def _reported_cells(shape: Shape, predecessor: Shape, paper: Paper, line: SpeedLine) -> list[Cell]:
    """What the paper prints, and what its line says; nothing for the predecessor, whose speed-up is 1 by definition."""
    if shape is predecessor:
        return [Cell(""), Cell("")]
    if not shape.is_alike(predecessor):
        return [Cell(None, notes=("not comparable: its layers are of another width than the predecessor's",))] * 2
    layers = shape.layers, predecessor.layers
    speedup = reported_speedup(paper, *layers)
    gap = Cell(None, notes=("not printed for this share of the layers",))
    return [gap if speedup is None else Cell(speedup), Cell(line.speedup(*layers))]


def _notes(plan: Plan, speed: SpeedResults, paper: Paper | None) -> tuple[str, ...]:
    shapes = speed.shapes
    notes = [*_methods(plan, shapes)]
    notes.append(
        "Speed depends on the shape of a model and not on its weights: methods of one shape share a measurement, made "
        "with random weights."
    )
    notes.append(f"Speed-up: {'; '.join(conditions(speed, device) for device in speed.devices)}.")
    notes.append(
        "FLOPs: of the forward pass of one sequence, products of matrices, a multiplication and an addition being two. "
        "Params: pooler and classifier included."
    )
    if paper and paper.speed:
        predecessor, line = shapes[0].layers, paper.speed.line
        notes.append(
            f"Printed: {cite_speed(paper)}, for the same share of {paper.layers} layers of {paper.backbone}, on "
            f"{paper.speed.hardware}; batch and length of that test are not given."
        )
        notes.append(
            f"Line: relative time = {line.fixed:g} + {line.per_layer:g} · layers, fitted to these "
            f"{len(paper.speed.speedups)} numbers; it is of a predecessor of {paper.layers} layers."
            + (
                f" For {predecessor} layers it says what would be if all but the layers cost as much as "
                f"{line.fixed_in_layers:.2f} layers here too."
                if predecessor != paper.layers
                else ""
            )
        )
    return tuple(notes)


def _timings(plan: Plan, speed: SpeedResults | None, title: str) -> Table:
    rows = list(_timing_rows(speed)) if speed else []
    columns = (
        Column("device", "Device", text=True),
        Column("length", "Length", ("tokens",), decimals=0),
        Column("batch_size", "Batch", ("sequences",), decimals=0),
        Column("latency_ms", "Latency", ("ms",), decimals=_decimals(rows, 3), fields=("low", "high")),
        Column("throughput", "Throughput", ("sequences/s",), decimals=_decimals(rows, 4)),
        Column("speedup", "Speed-up", ("×",), decimals=2, fields=("low", "high")),
        Column("memory_mb", "Peak memory", ("MiB",)),
        Column("flops", "FLOPs", ("a sequence",), powers=True),
        Column("rounds", "Rounds", decimals=0),
    )
    notes: tuple[str, ...] = ()
    if speed:
        notes = (
            "Each round times a forward pass of every model once, in an order that turns; the workflow runs nothing "
            "beside it. Latency: the median over the rounds; throughput: sequences a second at that latency; speed-up: "
            "the median of the rounds' ratios to the predecessor. In parentheses: 95 % bootstrap intervals over the "
            "rounds.",
            f"Devices: {'; '.join(_hardware(speed, device) for device in speed.devices)}.",
            "Peak memory: the weights and the most that torch's allocator holds at once in a pass, the same on CPU and "
            "GPU; what the interpreter and libraries need comes on top.",
            *_methods(plan, speed.shapes),
        )
    caption = "How fast each shape of model is and what memory it needs, at every length and batch size."
    return Table(title, caption, columns, tuple(rows), notes, stub="Model", identity=("methods",))


def _timing_rows(speed: SpeedResults) -> Iterator[Row]:
    """By device and size, so that the shapes stand below each other; sizes that were left out are gaps."""
    shapes = speed.shapes
    order = list(speed.devices)
    sizes = [*shapes[0].measurements, *speed.sizes_left_out]
    for size in sorted(sizes, key=lambda size: (order.index(size.device), size.length, size.batch_size)):
        for shape, label in zip(shapes, _labels(shapes), strict=True):
            timing, reason = shape.timing(size), _missing_reason(speed, size)
            cells = (
                Cell(DEVICES[size.device]),
                Cell(float(size.length)),
                Cell(float(size.batch_size)),
                _latency_cell(timing, reason),
                _value(timing.throughput if timing else None, reason),
                _speedup_cell(timing, reason),
                _value(timing.memory_mb if timing else None, reason),
                _value(shape.flops.get(str(size.length)), reason),
                _value(timing.rounds if timing else None, reason),
            )
            yield Row(label, cells, ("; ".join(shape.methods),), "teacher" if shape is shapes[0] else "")


def _missing_reason(speed: SpeedResults, size: DeviceSize) -> str:
    """Why a size has no measurement."""
    reason = speed.why_left_out(size)
    return f"{NOT_MEASURED}: {reason}" if reason else NOT_MEASURED


def _value(value: float | None, reason: str) -> Cell:
    return Cell(None, notes=(reason,)) if value is None else Cell(float(value))


def _speedup_cell(timing: Timing | None, reason: str) -> Cell:
    """The speed-up with its interval; the reason where there is none."""
    return _interval(timing.speedup, timing.low, timing.high) if timing else Cell(None, notes=(reason,))


def _latency_cell(timing: Timing | None, reason: str) -> Cell:
    """The latency in ms with its interval; the reason where there is none."""
    if not timing:
        return Cell(None, notes=(reason,))
    return _interval(timing.latency_ms, timing.latency_low, timing.latency_high)


def _interval(value: float, low: float, high: float) -> Cell:
    return Cell(value, interval=(low, high), data={"low": low, "high": high})


def _methods(plan: Plan, shapes: list[Shape]) -> list[str]:
    """A sentence for each shape on which methods have it."""
    return [
        f"{label}: {series([label_of_name(plan, name) for name in shape.methods])}."
        for shape, label in zip(shapes, _labels(shapes), strict=True)
    ]


def _labels(shapes: list[Shape]) -> list[str]:
    """'6 layers'; with family and width where two shapes have as many."""
    depths = Counter(shape.layers for shape in shapes)
    return [
        count_noun(shape.layers, "layer")
        + (f" ({shape.model_type}, {shape.hidden_size} wide)" if depths[shape.layers] > 1 else "")
        for shape in shapes
    ]


def _hardware(speed: SpeedResults, device: str) -> str:
    """'CPU (AMD EPYC, fp32, 2 threads)'."""
    hardware = speed.devices[device]
    threads = f", {count_noun(speed.threads, 'thread')}" if device == "cpu" else ""
    return f"{DEVICES[device]} ({hardware.name}, {hardware.precision}{threads})"


def _decimals(rows: Iterable[Row], index: int) -> int:
    """As many as show the first two digits of the smallest value in a column."""
    values = [number for row in rows if (number := row.cells[index].number)]
    return min(6, max(0, 1 - math.floor(math.log10(min(values))))) if values else 1
