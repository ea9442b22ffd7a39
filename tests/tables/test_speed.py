"""The tables and the figure of speed: ours beside the printed speed-ups, gaps as gaps."""

import pandas as pd
import pytest
from suites import make_plan
from theseus_bench.evaluation.scores import COLUMNS
from theseus_bench.evaluation.speed import read_speed
from theseus_bench.figures.frames import FigureData
from theseus_bench.files import write_json
from theseus_bench.tables.formats import to_csv, to_html, to_markdown
from theseus_bench.tables.speed import conditions, speed_tables

from results import significance_of

METHODS = ["predecessor", "finetune", "theseus", "pkd", "distilbert", "majority"]
ROW = {"rounds": 9, "latency_low": 9.0, "latency_high": 11.0, "throughput": 100.0, "memory_mb": 50.0}
SIZES = [("cpu", 1, 32), ("cpu", 32, 32), ("cuda", 1, 32), ("cuda", 32, 32)]
LEFT_OUT = [{"device": "cuda", "batch_size": 32, "length": 64, "reason": "out of memory"}]


def shape(methods: list[str], layers: int, speedup: float, **changes) -> dict:
    measurements = [
        {"device": device, "batch_size": batch, "length": length, "speedup": speedup, "low": speedup - 0.1}
        | {"high": speedup + 0.1, "latency_ms": 20 / speedup, **ROW}
        for device, batch, length in SIZES
    ]
    architecture = {"layers": layers, "hidden_size": 768, "intermediate_size": 3072, "model_type": "bert"}
    sizes = {"parameters": 24_000_000 + layers * 7_000_000, "embedding_parameters": 24_000_000}
    flops = {"flops": {"32": layers * 10**9, "64": layers * 2 * 10**9}}
    return {"methods": methods, "measured": measurements, **architecture, **sizes, **flops, **changes}


def speed(*shapes: dict) -> dict:
    names = [name for one in shapes for name in one["methods"]]
    return {
        "threads": 2,
        "devices": {
            "cpu": {"name": "A processor", "precision": "fp32"},
            "cuda": {"name": "A GPU", "precision": "bf16"},
        },
        "repetitions": 9,
        "headline": {"device": "cuda", "batch_size": 32, "length": 32},
        "shapes": list(shapes),
        "left_out": LEFT_OUT,
        "methods": {name: {} for name in names},
        "provenance": {},
    }


SPEED = speed(
    shape(["predecessor"], 12, 1.0),
    shape(["finetune", "theseus"], 6, 1.9),
    shape(["distilbert"], 6, 2.4, hidden_size=312, model_type="distilbert"),
)


@pytest.fixture
def plan():
    return make_plan(experiments={"first": {"title": "One", "methods": METHODS}})


def tables_of(plan, folder, values=SPEED):
    if values:
        write_json(folder / "speed" / "first.json", values)
    return speed_tables(plan, "first", folder)


def cells(table, label) -> dict:
    (row,) = (row for row in table.rows if row.label == label)
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


def test_a_shape_stands_beside_the_printed_speed_up_and_the_line(plan, tmp_path):
    table = tables_of(plan, tmp_path)["speed"]
    six = cells(table, "6 layers (bert, 768 wide)")
    assert (six["parameters_millions"].value, six["embedding_millions"].value) == (42, 24)
    assert six["flops"].value == 6e9
    assert (six["speedup_cuda"].value, six["speedup_cuda"].interval) == (1.9, pytest.approx((1.8, 2.0)))
    assert six["printed"].value == 1.94
    assert six["line"].value == pytest.approx(1.94, abs=0.005)
    assert cells(table, "12 layers")["printed"].value == "", "1 by definition"
    assert any("BERT-of-Theseus" in note and "Fine-tuning" in note for note in table.notes)
    assert "A processor, fp32, 2 threads" in to_markdown(table)
    assert '\nfinetune; theseus,6,"6 layers (bert' in to_csv(table)


def test_layers_of_another_width_are_not_compared_with_the_printed(plan, tmp_path):
    narrow = cells(tables_of(plan, tmp_path)["speed"], "6 layers (distilbert, 312 wide)")
    for key in ("printed", "line"):
        assert narrow[key].value is None
        assert "not comparable" in narrow[key].notes[0]


@pytest.mark.parametrize(("layers", "whole", "reported"), [(3, 6, 1.94), (2, 6, 2.82), (1, 4, 3.66), (1, 6, None)])
def test_another_predecessor_is_compared_by_the_share_of_its_layers(plan, tmp_path, layers, whole, reported):
    values = speed(shape(["predecessor"], whole, 1.0), shape(["theseus"], layers, 2.0))
    table = tables_of(plan, tmp_path, values)["speed"]
    row = cells(table, f"{layers} layer{'s' * (layers > 1)}")
    assert row["printed"].value == reported
    assert row["line"].value == pytest.approx((0.031 + 0.0808 * whole) / (0.031 + 0.0808 * layers))
    assert f"For {whole} layers it says what would be" in to_markdown(table)


def test_a_method_without_a_run_and_a_size_left_out_are_gaps(plan, tmp_path):
    tables = tables_of(plan, tmp_path)
    pkd = cells(tables["speed"], "BERT-PKD")
    assert pkd["speedup_cuda"].notes == ("not measured",)
    assert pkd["parameters_millions"].notes == ("not known: there is no run",)
    assert "Majority" not in to_markdown(tables["speed"]), "a control has no model"
    gaps = [row for row in tables["timings"].rows if row.cells[3].value is None]
    assert [row.cells[0].value for row in gaps] == ["GPU"] * 3
    assert {note for row in gaps for note in row.cells[3].notes} == {"not measured: out of memory"}
    assert "not measured: out of memory" in to_html(tables["timings"])


def test_a_headline_left_out_says_why(plan, tmp_path):
    table = tables_of(plan, tmp_path, SPEED | {"headline": {"device": "cuda", "batch_size": 32, "length": 64}})["speed"]
    assert cells(table, "12 layers")["speedup_cuda"].notes == ("not measured: out of memory",)
    assert "median of" not in conditions(read_speed("first", tmp_path), "cuda")


def test_every_measurement_has_a_row(plan, tmp_path):
    table = tables_of(plan, tmp_path)["timings"]
    rows = [row for row in table.rows if row.label.startswith("6 layers (bert") and row.cells[3].value is not None]
    assert [tuple(cell.value for cell in row.cells[:3]) for row in rows] == [
        ("CPU", 32, 1), ("CPU", 32, 32), ("GPU", 32, 1), ("GPU", 32, 32),
    ]  # fmt: skip
    first = dict(zip([column.key for column in table.columns], rows[0].cells, strict=True))
    assert (first["throughput"].value, first["memory_mb"].value, first["rounds"].value) == (100, 50, 9)
    assert first["latency_ms"].interval == (9.0, 11.0)


def test_without_a_measurement_the_tables_have_no_rows(plan, tmp_path):
    assert [table.rows for table in tables_of(plan, tmp_path, None).values()] == [(), ()]


def frames(plan, folder) -> FigureData:
    write_json(folder / "significance" / "first.json", significance_of())
    (folder / "scores").mkdir()
    pd.DataFrame(columns=COLUMNS).to_parquet(folder / "scores" / "first.parquet")
    return FigureData(plan, "first", folder)


def test_the_figure_has_our_points_the_printed_ones_and_the_line(plan, tmp_path):
    tables_of(plan, tmp_path)
    figure_data = frames(plan, tmp_path)
    picture = figure_data.speed_over_depth(figure_data.depths())
    assert [axes.get_title() for axes in picture.figure.axes] == ["CPU, 32 tokens", "GPU, 32 tokens"]
    lines = {line.get_label(): line.get_xydata() for line in picture.figure.axes[1].get_lines()}
    points = lines["Xu et al. 2020, of 12 layers, points"]
    assert dict(points.round(2).tolist()) == {50.0: 1.94, 33.33: 2.82, 25.0: 3.66}
    curve = lines["Xu et al. 2020, of 12 layers"]
    assert curve[0].tolist() == pytest.approx([25, 3.66], abs=0.005)
    assert curve[-1].tolist() == pytest.approx([100, 1])
    measurements = [lines[f"ours, batch {batch}"] for batch in (1, 32)]
    assert [line[:, 1].tolist() for line in measurements] == [[1.9], [1.9]], "and none of a narrower model"
    assert sum(line[0, 0] for line in measurements) / 2 == pytest.approx(50)
    assert "prints" not in picture.caption
    assert "Xu et al. 2020, Tables 1 and 7" in picture.caption


def test_a_predecessor_of_another_depth_has_its_own_line(tmp_path):
    plan = make_plan(
        backbone={"source": "package", "name": "small", "layers": 6}, student_layers=3,
        experiments={"first": {"title": "One", "methods": ["predecessor", "theseus"]}},
    )  # fmt: skip
    tables_of(plan, tmp_path, speed(shape(["predecessor"], 6, 1.0), shape(["theseus"], 3, 2.0)))
    figure_data = frames(plan, tmp_path)
    picture = figure_data.speed_over_depth(figure_data.depths())
    lines = {line.get_label(): line.get_xydata() for line in picture.figure.axes[0].get_lines()}
    assert lines["Xu et al. 2020, of 6 layers"][0, 1] < lines["Xu et al. 2020, of 12 layers"][0, 1]
    assert "as deep as ours" in picture.caption


def test_nothing_is_drawn_where_no_depth_was_measured(plan, tmp_path):
    assert frames(plan, tmp_path).depths().empty
    tables_of(plan, tmp_path, speed(shape(["predecessor"], 12, 1.0)))
    assert FigureData(plan, "first", tmp_path).depths().empty


@pytest.mark.parametrize("reported", [True, False])
def test_a_shape_that_was_not_measured_is_a_row_of_gaps_whether_or_not_a_paper_prints_speeds(
    plan, tmp_path, monkeypatch, reported
):
    if not reported:
        monkeypatch.setattr("theseus_bench.tables.speed.paper_with_speed", lambda: None)
    table = tables_of(plan, tmp_path)["speed"]
    keys = ["speedup_cpu", "speedup_cuda", *(["printed", "line"] if reported else [])]
    keys += ["parameters_millions", "embedding_millions", "flops"]
    assert [column.key for column in table.columns] == keys
    (row,) = [row for row in table.rows if row.label == "BERT-PKD"]
    assert [cell.value for cell in row.cells] == [None] * len(keys)
    assert [cell.notes for cell in row.cells[:3]] == [("not measured",)] * 2 + [("not known: there is no run",)]


def test_small_sizes_keep_two_digits(plan, tmp_path):
    """0.043 million parameters beside 84; sequences a second are whole, there are a hundred of them."""
    tiny = {"parameters": 1_043_000, "embedding_parameters": 1_000_000, "flops": {"32": 6.1e6}}
    whole = shape(["predecessor"], 12, 1.0)
    table = tables_of(plan, tmp_path, speed(whole, shape(["finetune", "theseus"], 6, 1.9, **tiny)))
    decimals = {column.key: column.decimals for column in table["speed"].columns}
    assert (decimals["parameters_millions"], decimals["embedding_millions"]) == (3, 1)
    timing = {column.key: column.decimals for column in table["timings"].columns}
    assert (timing["throughput"], timing["latency_ms"]) == (0, 0)
    missing = [row for row in table["timings"].rows if row.cells[1].value == 64]
    assert {row.cells[7].value for row in missing} == {None, 24e9}, "what has no operations at a length is a gap"
