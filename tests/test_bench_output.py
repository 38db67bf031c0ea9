"""The output of `rtseg-bench`: its table and its plot."""

import io

import pytest
from rich.console import Console

from rtseg.apps import _plot, bench


def result(model: str, fps: float, **changes: object) -> dict[str, object]:
    return {"model": model, "engine": "onnxruntime-cuda", "precision": "int8", "size": [1024, 2048],
            "engine_ms": {"p50": 123.4, "p90": 130.0, "p99": 140.5}, "engine_fps": fps, "end_to_end_fps": fps / 2,
            "latency_ms": {"p50": 1234.0, "p99": 2345.0}, "miou": {"camvid/val": 0.654}, **changes}  # fmt: skip


def test_the_table_cuts_nothing_at_80_columns() -> None:
    text = io.StringIO()
    results = [result("deeplabv3", 31.5), result("swiftnet", 8.1, miou={})]
    Console(file=text, width=80).print(bench._table(results, "camvid/val"))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for part in ("deeplabv3 int8", "onnxruntime-cuda 1024x2048", "123.4 / 140.5", "1234 / 2345", "0.654", "not stated"):
        assert any(part in line for line in lines), part
    assert not any("…" in line for line in lines)


@pytest.mark.slow
def test_the_plot_keeps_its_labels_inside_and_names_what_it_leaves_out(tmp_path, monkeypatch) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    plain = figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *a, **k: (drawn.append(self), plain(self, *a, **k)))
    results = [result("slow", 10.0), result("fast", 100.0), result("mine", 50.0, miou={})]
    told = _plot.plot(results, "camvid/val", tmp_path / "plot.png")
    assert told == ["mine int8: its card states no mIoU for camvid/val"]
    (axes,) = drawn[0].axes
    frame = axes.get_window_extent()
    for label in axes.texts:
        box = label.get_window_extent()
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1
