"""The state of a suite's runs on a terminal: a row for each method, a column for each task, a sign for each seed.

Below it stand lines: what is being trained and how far it is, what failed or is missing and why, and the sum of all.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from theseus_bench.errors import UserError
from theseus_bench.locks import is_held
from theseus_bench.suite.load import read_plan
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.progress_file import TrainingProgress, progress_file, read_progress
from theseus_bench.suite.records import NOT_RUN
from theseus_bench.suite.run_names import TRIAL
from theseus_bench.suite.status import count_unsealed, faults, states
from theseus_bench.wording import count_noun, series

SIGNS = {"complete": "✓", "failed": "✗", "running": "▶", "missing": "!", "waiting": "·"}
LEGEND = "✓ complete  ✗ failed  ▶ running  ! missing, as said below  · waiting"
COLOURS = {"complete": "green", "failed": "red", "running": "bold cyan", "missing": "yellow", "waiting": "dim"}
DONE = ("complete", "failed", "failed trial")  # kinds of runs that have a record, and are not made again
PIPE_WIDTH = 80  # characters of a row, where there is no terminal
GAPS = ("  ", " ")  # between two columns; the second where the first leaves no room for all tasks
INDENT = " " * 9  # before the rest of a line for which a terminal is too narrow
INTERVAL = 2.0  # seconds between two pictures
REST = 50  # times the time of a look are waited before the next: looking costs 2 % of a processor at most


@dataclass(frozen=True)
class RunState:
    """A run and where it is: one of DONE, running, missing for a reason, or waiting."""

    run: Run
    kind: str
    reason: str


@dataclass(frozen=True)
class SuiteState:
    """All that is drawn of a suite."""

    plan: Plan
    runs: list[RunState]  # in the plan's order
    trainings: dict[str, TrainingProgress | None]  # that go on, by what they make; None: no step is done yet
    unsound: dict[str, str] = field(default_factory=dict)  # what else cannot be used, with the reason
    unsealed: int = 0  # records without a checksum

    @property
    def is_done(self) -> bool:
        """Whether no run is left to be made."""
        return all(state.kind in DONE for state in self.runs)

    @property
    def is_sound(self) -> bool:
        """Whether all is there, and as it should be; a failed trial is a result of its search."""
        return all(state.kind in ("complete", "failed trial") for state in self.runs) and not self.unsound


class StateReader:
    """Reads the state of a suite again and again: of a run that is done only when its files have changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._suite_version = _versions(folder, "suite.json")
        self.plan = read_plan(folder)
        self._done: dict[str, tuple[object, RunState]] = {}  # by path, with the version of the files that say so

    def read(self) -> SuiteState:
        """The state as it is now; the plan is read again where suite.json has changed."""
        suite_version = _versions(self.folder, "suite.json")
        if suite_version != self._suite_version:
            self._suite_version, self.plan, self._done = suite_version, read_plan(self.folder), {}
        paths = self.plan.runs
        versions = {path: _versions(self.folder / path, "run.json", "predictions.parquet") for path in paths}
        current = {path: state for path, (version, state) in self._done.items() if version == versions[path]}
        others = [run for path, run in paths.items() if path not in current]
        current |= {row[0].path: self._judge(*row) for row in states(self.plan, self.folder, others)}
        self._done = {path: (versions[path], state) for path, state in current.items() if state.kind in DONE}
        runs = [current[path] for path in paths]
        return SuiteState(self.plan, runs, self._read_trainings(runs))

    def _judge(self, run: Run, status: str, reason: str) -> RunState:
        if status == "failed" and run.is_trial:
            return RunState(run, "failed trial", reason)
        if status == "missing" and is_held(self.folder, run.path):
            return RunState(run, "running", reason)
        return RunState(run, "waiting" if (status, reason) == ("missing", NOT_RUN) else status, reason)

    def _read_trainings(self, runs: list[RunState]) -> dict[str, TrainingProgress | None]:
        checkpoints = ["backbone", *(f"compact/{method}" for method in self.plan.suite.compact)]
        places = [place for place in checkpoints if is_held(self.folder, place)]
        places += [state.run.path for state in runs if state.kind == "running"]
        return {place: read_progress(progress_file(self.folder, place)) for place in places}


def print_status(folder: Path, name_waiting: bool) -> bool:
    """Print the state of the suite in `folder`, with `name_waiting` each run that waits; whether all is sound."""
    console, reader = _make_console(), StateReader(folder)
    state, plan = reader.read(), reader.plan
    unsound = faults(plan, plan.runs.values(), plan.suite.experiments, folder)
    state = replace(state, unsound=unsound, unsealed=count_unsealed(plan, folder))
    width = console.width if console.is_terminal else None
    console.print(_colour(Picture(state, width, name_waiting=name_waiting).lines), soft_wrap=True)
    return state.is_sound


def watch_status(folder: Path) -> None:
    """Draw the runs of the suite in `folder` every few seconds, until none is left or the user interrupts.

    UserError where there is no terminal. What is made of the runs is not checked.
    """
    if not sys.stdout.isatty():
        raise UserError("status: --watch draws on a terminal, and the output goes to none; leave it out")
    console, reader = _make_console(), StateReader(folder)
    lines: list[str] = []
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                start = time.monotonic()
                state = reader.read()
                lines = Picture(state, console.width).lines
                live.update(_colour(fit(state, console.width, console.height - 1)), refresh=True)
                if state.is_done:
                    break
                time.sleep(max(INTERVAL, REST * (time.monotonic() - start)))
        finally:
            live.update(_colour(lines))  # what stays on the terminal is the whole


@dataclass(frozen=True)
class Row:
    """One line of the matrix: the runs of a name, or what is only counted of them, by task."""

    title: str
    is_counted: bool  # done of all, where it is not a sign for each seed
    cells: dict[str, list[RunState]] = field(default_factory=dict)

    @property
    def kinds(self) -> set[str]:
        """Of its runs."""
        return {state.kind for states_of_task in self.cells.values() for state in states_of_task}

    @property
    def is_done(self) -> bool:
        """Whether no run of it is left to be made."""
        return self.kinds <= set(DONE)

    def text(self, task: str, seeds: list[int]) -> str:
        """The cell of a task: '✓✗·', or '4/9▶' if it is counted."""
        runs = self.cells.get(task, [])
        if not self.is_counted:
            signs = {state.run.seed: SIGNS[state.kind] for state in runs}
            return "".join(signs.get(seed, " ") for seed in seeds)
        kinds = Counter(state.kind for state in runs)
        exceptions = "".join(SIGNS[kind] for kind in ("running", "missing", "failed") if kinds[kind])
        return f"{sum(kinds[kind] for kind in DONE)}/{len(runs)}{exceptions}" if runs else ""


@dataclass(frozen=True)
class Picture:
    """A state in lines of at most `width` characters; without a width, lines below the matrix are never parted."""

    state: SuiteState
    width: int | None
    name_waiting: bool = False  # runs that wait have lines, too
    only_active: bool = False  # rows of which all is done, or all waits, are not drawn

    @property
    def lines(self) -> list[str]:
        """All of it."""
        return [*self.matrix, "", *self.trainings, *self.faults, *self.sums]

    def crop(self, height: int) -> list[str]:
        """As much of it as fits into `height` lines: the sums, what is being trained, the matrix, then the faults."""
        room = height - len(self.sums) - 1
        least = min(len(self.trainings) + 1, room // 2)
        details = _crop([*self.trainings, *self.faults], max(least, room - len(self.matrix)))
        return [*_crop(self.matrix, room - len(details)), "", *details, *self.sums]

    @cached_property
    def matrix(self) -> list[str]:
        """The legend, and the rows in blocks of as many tasks as there is room for."""
        rows, width, seeds = self._rows, self.width or PIPE_WIDTH, self.state.plan.suite.seeds
        cells = [f"a sign for each seed: {series([str(seed) for seed in seeds])}"]
        cells = cells if any(not row.is_counted for row in rows) else []
        cells += ["2/3: two done of three"] if any(row.is_counted for row in rows) else []
        lines = [*textwrap.wrap(LEGEND, width), *textwrap.wrap("; ".join(cells), width)]
        if self.only_active:
            done, waiting = sum(row.is_done for row in rows), sum(row.kinds == {"waiting"} for row in rows)
            lines.append(f"not drawn: {count_noun(done, 'row')} done, {count_noun(waiting, 'row')} waiting")
            rows = [row for row in rows if not row.is_done and row.kinds != {"waiting"}]
        title_width = min(max((len(row.title) for row in rows), default=0), width // 2)
        widths = {}
        for task in self.state.plan.trained_tasks:
            lengths = [len(row.text(task, seeds)) for row in rows]
            if any(lengths):
                widths[task] = max(len(task), *lengths)
        wide, narrow = GAPS
        gap = wide if len(_part(widths, width - title_width, len(wide))) < 2 else narrow
        for tasks in _part(widths, width - title_width, len(gap)):
            heads = [" " * title_width, *(f"{task:{widths[task]}}" for task in tasks)]
            lines += ["", gap.join(heads).rstrip()]
            for row in rows:
                if not row.cells.keys().isdisjoint(tasks):
                    texts = [f"{row.text(task, seeds):{widths[task]}}" for task in tasks]
                    lines.append(gap.join([f"{_cut(row.title, title_width):{title_width}}", *texts]).rstrip())
        return lines

    @cached_property
    def _rows(self) -> list[Row]:
        """The plan's runs by their names; trials, and runs of seeds that are not the suite's, are counted."""
        seeds, width = self.state.plan.suite.seeds, self.width or PIPE_WIDTH
        rows: dict[str, Row] = {}
        for state in self.state.runs:
            run, is_counted = state.run, len(seeds) >= width // 2
            title = run.name
            if run.is_trial:
                title, is_counted = f"search of {run.run_name.without(TRIAL)}", True
            elif run.seed not in seeds:
                title, is_counted = f"other seeds of {run.name}", True
            rows.setdefault(title, Row(title, is_counted)).cells.setdefault(run.task.name, []).append(state)
        return list(rows.values())

    @cached_property
    def trainings(self) -> list[str]:
        """What is being trained, and how far it is."""
        return self._wrap(
            [f"{'running':8} {place}: {told or 'no step yet'}" for place, told in self.state.trainings.items()]
        )

    @cached_property
    def faults(self) -> list[str]:
        """What failed, is missing or unsound, and why; on a terminal runs of a name that have the same reason once."""
        kinds = {"failed": "failed", "missing": "missing"} | ({"waiting": "missing"} if self.name_waiting else {})
        groups: dict[tuple[str, ...], list[str]] = {}
        for state in self.state.runs:
            if state.kind in kinds:
                own = state.run.name if self.width is not None else state.run.path
                groups.setdefault((kinds[state.kind], own, state.reason), []).append(state.run.path)
        lines = []
        for (kind, name, reason), paths in groups.items():
            more = f" and {len(paths) - 1} more of {name}" if len(paths) > 1 else ""
            lines.append(f"{kind:8} {paths[0]}{more}: {reason}")
        return self._wrap(lines + [f"{'unsound':8} {path}: {reason}" for path, reason in self.state.unsound.items()])

    def _wrap(self, lines: list[str]) -> list[str]:
        if self.width is None:
            return lines
        wrapper = textwrap.TextWrapper(self.width, subsequent_indent=INDENT, break_on_hyphens=False)
        return [part for line in lines for part in wrapper.wrap(line)]

    @property
    def sums(self) -> list[str]:
        """How many runs are in which state."""
        counts = Counter(state.kind for state in self.state.runs)
        parts = [f"{counts['complete']} complete", f"{counts['failed']} failed"]
        missing = counts["missing"] + counts["running"] + counts["waiting"]
        active = [f"{counts[kind]} {kind}" for kind in ("running", "waiting") if counts[kind]]
        parts.append(f"{missing} missing" + (f" ({', '.join(active)})" if active else ""))
        parts += [count_noun(counts["failed trial"], "failed trial")] if counts["failed trial"] else []
        parts += [count_noun(len(self.state.unsound), "unsound output")] if self.state.unsound else []
        lines = [", ".join(parts)]
        if self.state.unsealed:
            lines.append(f"{count_noun(self.state.unsealed, 'record')} without a checksum, of an earlier version")
        return lines


def fit(state: SuiteState, width: int, height: int) -> list[str]:
    """The state in `height` lines: without the last faults, else without rows in which nothing goes on."""
    picture = Picture(state, width)
    if len(picture.lines) <= height:
        return picture.lines
    needed = len(picture.matrix) + len(picture.trainings) + len(picture.sums) + 2  # an empty line, and how many more
    return (picture if needed <= height else replace(picture, only_active=True)).crop(height)


def _part(widths: dict[str, int], room: int, gap: int) -> list[list[str]]:
    """The columns of these widths, a gap before each, in blocks for which there is room; at least one in each."""
    blocks: list[list[str]] = []
    rest = 0
    for name, width in widths.items():
        if not blocks or rest < gap + width:
            blocks.append([])
            rest = room
        blocks[-1].append(name)
        rest -= gap + width
    return blocks


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _crop(lines: list[str], height: int) -> list[str]:
    """The first lines; the last says how many there are more."""
    if len(lines) <= height:
        return lines
    return [*lines[: max(0, height - 1)], f"… and {count_noun(len(lines) - max(0, height - 1), 'line')} more"]


def _versions(folder: Path, *names: str) -> object:
    """What changes when one of the files is written, comes or goes."""
    versions: list[tuple[int, int, int] | None] = []
    for name in names:
        try:
            stat = os.stat(folder / name)
            versions.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except FileNotFoundError:
            versions.append(None)
    return versions


def _make_console() -> Console:
    """Where it is drawn; with colours on a terminal alone."""
    return Console(highlight=False, force_terminal=sys.stdout.isatty())


def _colour(lines: list[str]) -> Text:
    """The lines with the colour of each sign, and of the word that a line begins with."""
    text = Text("\n".join(lines))
    for kind, sign in SIGNS.items():
        text.highlight_regex(rf"(?m){re.escape(sign)}+|^{kind}\b", COLOURS[kind])
    return text
