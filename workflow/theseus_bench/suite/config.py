"""The typed configuration of a suite: what to run.

Nothing here knows which tasks and methods exist; `theseus_bench.suite.load` checks the configuration against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AllowInfNan, Field, model_validator

from theseus_bench.strict_yaml import Family, Name, Strict, Text
from theseus_bench.suite.outputs import reserved_endings, reserved_names

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="a 40-digit commit of a hub repository")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="the SHA-256 of a file, in hexadecimal")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what NumPy takes
SuiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)?$", max_length=100)]
Protocol = Literal["published", "equal"]
ChoiceSet = Literal["dev", "held_out"]
Scalar = bool | int | Annotated[float, AllowInfNan(True)] | str  # whose setting says what it may be


class LoopSettings(Strict):
    """What the training loop itself can be told; a method's own settings stand beside these, in its method.yaml.

    The defaults are those of the careful recipe for small data sets (Mosbach et al. 2021) at the paper's batch size.
    """

    start: Literal["pretrained", "predecessor"] = Field(
        "pretrained", description="whose first layers the student starts from: the backbone's or the predecessor's"
    )
    layers: int = Field(ge=1, description="depth of the compressed model")
    epochs: float = Field(4, gt=0, description="passes over the training set")
    max_steps: int | None = Field(None, ge=1, description="cap on optimizer steps")
    batch_size: int = Field(32, ge=1, description="examples of one optimizer step")
    learning_rate: float = Field(2e-5, gt=0, description="its peak")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, of all parameters but biases and layer norms")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    clip_norm: float = Field(1.0, gt=0, description="norm to which the gradients together are clipped")
    evaluate_every: int | None = Field(None, ge=1, description="steps between evaluations; default: once an epoch")
    evaluations: int | None = Field(
        None, ge=1, description="number of evaluations, spread evenly over the steps; in the place of evaluate_every"
    )
    patience: int | None = Field(None, ge=1, description="evaluations without a better score before stopping")
    choose_on: ChoiceSet = Field(
        "dev",
        description="by whose score the checkpoint is chosen: the dev set's, or that of a slice held out of train",
    )
    watch_dev: bool = Field(
        False, description="with choose_on held_out: dev is scored at each evaluation too, for the record alone"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 autocast where the processor has it"
    )


# What makes the effort of a run: under the protocol of equal effort the same for all, whatever a method's recipe says.
EFFORT = ("epochs", "max_steps", "batch_size", "evaluate_every", "evaluations", "patience", "choose_on")


class DataSource(Strict):
    """Where the GLUE tables come from."""

    source: Literal["hub", "local", "demo"] = Field(
        description="the hub's data set, a folder of parquet files, or generated sentences"
    )
    name: str = Field("nyu-mll/glue", description="hub: the data set")
    revision: Commit | None = Field(None, description="hub: the pinned commit")
    path: str | None = Field(None, description="local: a folder <task>/<split>.parquet with the hub's columns")
    samples: list[str] = Field([], description="tasks whose splits may differ in rows or content from official GLUE")
    rows: int | None = Field(None, ge=8, description="demo: training sentences to generate for each task")
    max_train: dict[str, Annotated[int, Field(ge=20)]] = Field(
        {}, description="by task: how many training examples to use, the same ones for all methods and seeds"
    )
    diagnostic: str | None = Field(
        None, description="GLUE's diagnostic-full.tsv, whose labels and categories AX is scored by; the hub has neither"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "hub" and self.revision is None:
            raise ValueError("source hub needs a revision: the commit whose tables are meant")
        if self.source == "local" and self.path is None:
            raise ValueError("source local needs a path: the folder that holds <task>/<split>.parquet")
        if self.source == "demo" and self.rows is None:
            raise ValueError("source demo needs rows: how many training sentences to generate for each task")
        return self


class Backbone(Strict):
    """The pretrained checkpoint that every method starts from."""

    source: Literal["hub", "folder", "package", "demo"] = Field(
        description="a hub repository, a folder, an installed Python package, or a tiny one pretrained here"
    )
    name: str | None = Field(None, description="hub: repository; folder: path; package: module or module/folder")
    revision: Commit | None = Field(None, description="hub: the pinned commit")
    family: Family = Field("bert", description="the checkpoint's model_type")
    layers: int = Field(ge=2, le=1000, description="its number of transformer layers")
    steps: int = Field(2000, ge=1, description="demo: steps of pretraining")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source != "demo" and self.name is None:
            raise ValueError(f"source {self.source} needs a name")
        if self.source == "hub" and self.revision is None:
            raise ValueError("source hub needs a revision: a pinned commit, since branches move")
        return self


class Compact(Strict):
    """A compact general-purpose checkpoint: taken from the hub, or distilled here from the backbone (`recipe`)."""

    source: Literal["hub", "recipe"] = Field(description="fetched from the hub, or distilled here from the backbone")
    name: str | None = Field(None, description="hub: the repository")
    revision: Commit | None = Field(None, description="hub: nothing is fetched before this or sha256 is given")
    sha256: Sha256 | None = Field(
        None,
        description="hub: of model.safetensors; without a revision the main branch is taken, as long as it has it",
    )
    objective: Literal["distillation", "masked_words"] = Field(
        "distillation", description="recipe: DistilBERT's three terms, or masked language modelling alone"
    )
    steps: int = Field(2000, ge=1, description="recipe: steps of training")
    head_steps: int = Field(
        0, ge=0, description="recipe: steps that first fit a masked-language head to a backbone without one"
    )
    batch_size: int = Field(32, ge=1, description="recipe: sentences of one step")
    learning_rate: float = Field(5e-4, gt=0, description="recipe: its peak")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "hub" and self.name is None:
            raise ValueError("source hub needs a name")
        return self


class Override(Strict):
    """Settings laid over the methods' own, for the methods and tasks named (all, where none is named)."""

    set: dict[str, Any] = Field(description="settings of the loop or of a method's own, by name")
    methods: list[str] | None = Field(None, description="for these methods; default: all")
    tasks: list[str] | None = Field(None, description="on these tasks; default: all")


class Search(Strict):
    """How far the settings of the compressed models are searched before their final runs."""

    budget: Annotated[int, Field(ge=1)] | dict[Protocol, Annotated[int, Field(ge=1)]] = Field(
        1, description="settings tried for each method and task, the same for all; 1: the methods' defaults, no search"
    )
    seeds: list[Seed] = Field([101, 102, 103], min_length=1, description="seeds of the trials; none of the final runs'")
    space: dict[str, list[Any]] = Field({}, description="values offered in the place of the methods' own, by setting")

    def budget_of(self, protocol: Protocol) -> int:
        """The budget under a protocol."""
        return self.budget if isinstance(self.budget, int) else self.budget.get(protocol, 1)


class Equal(Strict):
    """The protocol of equal effort: what the predecessor and all compressed models share in it.

    What makes the effort (`EFFORT`) is taken from here and the loop's defaults alone. There is no early stopping, and
    what is chosen is chosen on a slice held out of train.
    """

    set: dict[str, Any] = Field({}, description="settings of the loop, above the methods' own and the suite's")
    per_task: dict[str, dict[str, Any]] = Field({}, description="the same by task, above `set`")
    search: dict[str, list[Any]] = Field({}, description="what every method's search is offered beside its own grid")
    space: dict[str, list[Any]] = Field({}, description="values offered in the place of the methods' own, by setting")


class VerdictRule(Strict):
    """When a published number counts as reproduced; differences in points."""

    tolerance: float = Field(
        1.0, ge=0, description="points within which the interval of the difference lies where a number is reproduced"
    )
    tolerance_by_task: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="points, by task, where seeds are known to differ by more"
    )


class Significance(Strict):
    """How differences between methods are tested; to be fixed before the runs."""

    control: str = Field("finetune", description="the method that every other is compared with")
    alpha: float = Field(0.05, gt=0, lt=1, description="the rate of false alarms that a family of tests may have")
    resamples: int = Field(10_000, ge=1000, description="of the bootstrap over seeds and examples")


class Experiment(Strict):
    """One table or figure: which methods on which tasks with which seeds."""

    title: Text = Field(description="the heading of its tables")
    methods: list[str] = Field(min_length=1, description="names, or name@variant")
    vary: list[dict[str, Scalar]] = Field([], description="each compressed model once with each of these settings")
    protocols: list[Protocol] = Field(
        ["published"], min_length=1, description="each method once under each of them: docs/protocols.md"
    )
    tasks: list[str] | None = Field(None, min_length=1, description="default: the suite's tasks")
    seeds: list[Seed] | None = Field(None, min_length=1, description="default: the suite's seeds")
    control: str | None = Field(None, description="what the others are compared with; default: significance.control")
    compare_with: list[str] = Field([], description="tables of results/published, as FILE: TABLE")
    curves: Literal["replacing", "all"] = Field(
        "replacing", description="whose scores while training are drawn: the methods' that replace modules, or all's"
    )
    submission: bool = Field(False, description="whether files for the GLUE server are made of its predictions")


class Size(Strict):
    """How much one forward pass takes in."""

    batch_size: int = Field(ge=1, description="sequences")
    length: int = Field(ge=8, description="tokens of each")


class Speed(Strict):
    """How the speed of the compressed models is measured: on the CPU and, where `device` allows one, the GPU.

    `headline` is the size whose speed-up the tables of scores show and the claims are judged by. The paper gives
    neither batch nor length of its speed test; the default has those that it trains with. The demo's backbone reads no
    such lengths: where the configuration names no size it is measured with 1 and 16 sequences of 32 tokens.
    """

    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([1, 32, 128], min_length=1, description="sequences")
    lengths: list[Annotated[int, Field(ge=8)]] = Field([32, 128, 256], min_length=1, description="tokens")
    headline: Size = Field(
        Size(batch_size=32, length=128), description="size of the column Speed-up; one of those measured"
    )
    repetitions: int = Field(100, ge=3, description="rounds of each size, at most")
    seconds: float = Field(10, gt=0, description="seconds after which no round of a size begins, once five are done")

    @property
    def sizes(self) -> list[Size]:
        """Every batch size with every length."""
        return [Size(batch_size=batch, length=length) for length in self.lengths for batch in self.batch_sizes]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.headline not in self.sizes:
            raise ValueError(
                f"headline: a batch of {self.headline.batch_size} at length {self.headline.length} is not measured; "
                "take one of batch_sizes and one of lengths"
            )
        return self


DEMO_SIZES = {"batch_sizes": [1, 16], "lengths": [32], "headline": {"batch_size": 16, "length": 32}}


class Suite(Strict):
    """A suite: a backbone, the data, and the experiments to run with them."""

    suite: SuiteName = Field(description="results go to results/<suite>")
    data: DataSource = Field(description="where the GLUE tables come from")
    glue: str | None = Field(
        None, description="a folder <task>/<split>.parquet that is read in the place of what `data` names"
    )
    backbone: Backbone = Field(description="the pretrained checkpoint that every method starts from")
    compact: dict[str, Compact] = Field({}, description="compact checkpoints, by the method that needs one")
    student_layers: int = Field(ge=1, description="depth of the compressed models; divides the backbone's")
    tasks: list[str] = Field(min_length=1, description="names of config/tasks.yaml")
    seeds: list[Seed] = Field(
        min_length=1, description="of the final runs; student seed n learns from predecessor seed n"
    )
    settings: list[Override] = Field([], description="laid over the methods' own settings, in this order")
    trust_records: bool = Field(
        False, description="a run whose record is there is done, though what it read is not: for records in git"
    )
    keep_models: list[str] = Field(
        [],
        description="methods (or method@variant) whose models are kept, or [all]; the predecessor's always are. A run "
        "whose model was not kept is trained again for it",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    threads: int = Field(1, ge=1, description="processor threads of one run")
    checkpoint_every: float = Field(
        300, ge=0, description="seconds between the checkpoints of a training, from which it goes on after a stop"
    )
    search: Search = Field(Search(), description="how far settings are searched before the final runs")
    equal: Equal = Field(Equal(), description="the protocol of equal effort")
    verdicts: VerdictRule = Field(VerdictRule(), description="when a published number counts as reproduced")
    significance: Significance = Field(Significance(), description="how differences are tested")
    speed: Speed = Field(Speed(), description="how the models' speed is measured")
    experiments: dict[Name, Experiment] = Field(
        min_length=1, description="by name: one for each table or figure; the name is a target of snakemake"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_folder(cls, values: Any) -> Any:
        """With `glue` the data is local, whatever `data` says of where else it would come from."""
        if not isinstance(values, dict) or not isinstance(values.get("glue"), str):
            return values
        data = values.get("data", {})
        elsewhere = ("source", "name", "revision", "rows", "path")
        rest = {key: value for key, value in data.items() if key not in elsewhere} if isinstance(data, dict) else {}
        return values | {"data": rest | {"source": "local", "path": values["glue"]}}

    @model_validator(mode="before")
    @classmethod
    def _fit_speed_to_demo(cls, values: Any) -> Any:
        """Sizes that the demo's backbone can read, where a configuration names none."""
        if not isinstance(values, dict) or not isinstance(values.get("backbone"), dict):
            return values
        speed = values.get("speed", {})
        if values["backbone"].get("source") != "demo" or not isinstance(speed, dict) or DEMO_SIZES.keys() & speed:
            return values
        return values | {"speed": DEMO_SIZES | speed}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.suite.partition("/")[0] == "published":
            raise ValueError("suite: results/published holds the papers' numbers; choose another name")
        endings = reserved_endings()
        clashes = reserved_names() & self.experiments.keys()
        clashes |= {name for name in self.experiments if name.endswith(endings)}
        if clashes:
            raise ValueError(f"experiments: {', '.join(sorted(clashes))}: the workflow uses this name; choose another")
        if self.backbone.layers % self.student_layers or self.student_layers == self.backbone.layers:
            divisors = [d for d in range(1, self.backbone.layers) if self.backbone.layers % d == 0]
            raise ValueError(
                f"student_layers {self.student_layers} does not divide the backbone's {self.backbone.layers} layers "
                f"into modules of equal depth; choose one of {divisors}"
            )
        lists: dict[str, list[Any]] = {"tasks": self.tasks, "seeds": self.seeds}
        for key, experiment in self.experiments.items():
            for field in ("methods", "protocols", "tasks", "seeds", "vary", "compare_with"):
                lists[f"experiments.{key}.{field}"] = getattr(experiment, field) or []
        lists |= {"speed.batch_sizes": self.speed.batch_sizes, "speed.lengths": self.speed.lengths}
        has_search = any(self.search.budget_of(protocol) > 1 for protocol in get_args(Protocol))
        final = {seed for name, values in lists.items() if name.endswith("seeds") for seed in values}
        overlap = sorted(final & set(self.search.seeds))
        if has_search and overlap:
            raise ValueError(
                f"search.seeds: {', '.join(map(str, overlap))} is a seed of final runs too; settings chosen on a seed "
                "flatter its score, so choose another"
            )
        for name, values in lists.items():
            repeats = [str(value) for i, value in enumerate(values) if values.index(value) < i]
            if repeats:
                raise ValueError(f"{name} names {', '.join(repeats)} twice")
        return self
