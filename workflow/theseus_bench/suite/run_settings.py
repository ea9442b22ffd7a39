"""What a suite sets its runs to, by their name and task, and what their searches try."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import suggest
from theseus_bench.suite.config import EFFORT, LoopSettings, Suite
from theseus_bench.suite.method_spec import MethodSpec, Overlays, find_spec, resolve_settings, setting_origins
from theseus_bench.suite.run_names import EQUAL, TRIAL, RunName, read_part
from theseus_bench.suite.search import Settings, draw_trials

Resolution = tuple[Settings, tuple[Settings, ...]]  # of a name on a task: settings, and what a search tries
NOT_OF_A_RECIPE = ("precision", "watch_dev")  # settings of which a method's authors could have said nothing


@dataclass(frozen=True)
class RunSettings:
    """The settings of a suite's runs, by their name (METHOD or METHOD@VARIANT) and task."""

    suite: Suite
    specs: dict[str, MethodSpec]
    faults: dict[str, str]  # what is wrong with the methods that are not in `specs`
    # What was computed once, since the workflow asks for each run a dozen times.
    _resolutions: dict[tuple[str, str], Resolution] = field(default_factory=dict, init=False, compare=False, repr=False)

    def resolve(self, name: str, task: str) -> Resolution:
        """Settings and trials of the runs called `name` on a task; UserError for a method, part or value unknown."""
        if (name, task) not in self._resolutions:
            self._resolutions[name, task] = self._settings_and_trials(name, task)
        return self._resolutions[name, task]

    def follow_recipe(self, name: str, task: str) -> bool:
        """Whether the suite's own settings and grids change nothing that the method's authors could have said."""
        return self._recipe(name, task) == self._without_overrides._recipe(name, task)

    def _recipe(self, name: str, task: str) -> Resolution:
        settings, trials = self.resolve(name, task)
        return {key: value for key, value in settings.items() if key not in NOT_OF_A_RECIPE}, trials

    @cached_property
    def _without_overrides(self) -> RunSettings:
        """The same without the suite's own settings and values: every method by its recipe."""
        search = self.suite.search.model_copy(update={"space": {}})
        return replace(self, suite=self.suite.model_copy(update={"settings": [], "search": search}))

    def origins(self, name: str, task: str) -> dict[str, str]:
        """Which layer set each setting of the runs called `name` on a task: the last one that names it."""
        run_name = RunName.parse(name)
        return setting_origins(self.specs[run_name.method], self._overlays(run_name, task))

    def _settings_and_trials(self, name: str, task: str) -> Resolution:
        run_name = RunName.parse(name)
        spec = find_spec(self.specs, run_name.method, self.faults)
        settings = resolve_settings(spec, self._layers(spec), self._overlays(run_name, task))
        if run_name.trial is not None:
            return settings, ()
        settings = self._check_layers(name, spec, settings)
        equal = run_name.protocol == EQUAL
        fixed_keys = {key for _, changes in self._variant_overlays(run_name) for key in changes}
        space = self._space(spec, task, equal, fixed_keys)
        budget = self.suite.search.budget_of("equal" if equal else "published")
        # The draws are the method's, so that variants with the same grid try the same settings.
        draws = draw_trials(space, {key: settings[key] for key in space}, budget, spec.name) if space else []
        return settings, tuple(draws)

    def _layers(self, spec: MethodSpec) -> int:
        return self.suite.backbone.layers if spec.role == "teacher" else self.suite.student_layers

    def _overlays(self, run_name: RunName, task: str) -> Overlays:
        """What is laid over the defaults of the method and the loop, in order: the last word wins."""
        spec = find_spec(self.specs, run_name.method, self.faults)
        overlays = [(f"methods/{spec.name}/method.yaml: per_task.{task}", spec.per_task.get(task, {}))]
        for index, override in enumerate(self.suite.settings):
            if spec.name in (override.methods or [spec.name]) and task in (override.tasks or [task]):
                overlays.append((f"settings.{index}", override.set))
        if run_name.protocol == EQUAL:
            block = self.suite.equal
            effort_keys = (*EFFORT, "warmup")  # steps, and their schedule, which a search may vary for all alike
            overlays.append(("equal", {key: LoopSettings.model_fields[key].default for key in effort_keys}))
            overlays += [("equal.set", block.set), (f"equal.per_task.{task}", block.per_task.get(task, {}))]
            overlays.append(("equal", {"choose_on": "held_out"}))
        overlays += self._variant_overlays(run_name)
        if run_name.trial is not None:
            overlays.append((f"search of {spec.name}", self._trial(run_name, task)))
        return overlays

    def _variant_overlays(self, run_name: RunName) -> Overlays:
        """What the parts of a name set, but for its protocol and its trial."""
        spec = find_spec(self.specs, run_name.method, self.faults)
        parts = run_name.without(TRIAL).without(EQUAL).parts
        return [(f"{run_name.method}@{part}", self._changes(spec, part)) for part in parts]

    def _trial(self, run_name: RunName, task: str) -> Settings:
        """The settings that the trial of this name tries; UserError if its search has no such trial."""
        _, trials = self.resolve(str(run_name.without(TRIAL)), task)
        if run_name.trial not in range(len(trials)):
            raise UserError(f"{run_name} on {task}: the search has {len(trials)} trials, counted from 0")
        return trials[int(run_name.trial)]

    def _changes(self, spec: MethodSpec, part: str) -> Settings:
        """What a part of a name sets."""
        setting = read_part(part)
        if setting is not None:
            return dict([setting])
        if part not in spec.variants:
            raise UserError(f"method {spec.name} has no variant {part!r}{suggest(part, spec.variants)}")
        return spec.variants[part]

    def _space(self, spec: MethodSpec, task: str, equal: bool, fixed_keys: set[str]) -> dict[str, list[Any]]:
        """What a search of the method may vary: its own grid and, under equal effort, what all are offered."""
        if not spec.trained:
            return {}
        common_grid = self.suite.search.space | (self.suite.equal.space if equal else {})
        method_grid = spec.search | spec.search_per_task.get(task, {})
        space = {key: common_grid.get(key, values) for key, values in method_grid.items()}
        if equal:
            block = self.suite.equal
            space |= block.search
            keys_set = block.set.keys() | block.per_task.get(task, {}).keys()
            fixed_keys = fixed_keys | set(EFFORT) | (keys_set - block.search.keys())
        if "compact_checkpoint" in spec.needs or spec.source or spec.role == "teacher":
            fixed_keys = fixed_keys | {"start"}  # where it starts is what the method is
        return {key: values for key, values in space.items() if key not in fixed_keys}

    def _check_layers(self, name: str, spec: MethodSpec, settings: Settings) -> Settings:
        layers, backbone_layers = settings["layers"], self.suite.backbone.layers
        if spec.role == "teacher" and layers != backbone_layers:
            raise UserError(
                f"method {name}: layers is {layers}, but the predecessor has the backbone's {backbone_layers}; "
                "name the methods whose layers are meant under settings.methods"
            )
        if backbone_layers % layers:
            raise UserError(
                f"method {name}: layers {layers} does not divide the backbone's {backbone_layers} layers, so the "
                "modules to replace would differ in depth"
            )
        return settings
