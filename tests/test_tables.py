import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rtseg.core.zoo import resolve, shipped

ROOT = Path(__file__).resolve().parents[1]


def test_readme_tables_are_what_their_sources_give() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scores_by_size_are_of_the_weights_that_ship() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "sizes.json").read_text(encoding="utf-8"))["results"]
    cards = {name: resolve(name).card for name in shipped()}
    assert {(found["model"], found["sha256"]) for found in results} == {
        (name, card.files["fp32"].sha256) for name, card in cards.items()
    }
    for found in results:
        if found["factor"] == 1:
            assert found["miou"] == pytest.approx(cards[found["model"]].figures()["camvid/val"]["miou"], abs=0.001)


def test_the_protocol_says_how_each_result_file_is_made() -> None:
    benchmarks = ROOT / "benchmarks"
    protocol = (benchmarks / "PROTOCOL.md").read_text(encoding="utf-8")
    found = [f"results/{path.name}" for path in sorted((benchmarks / "results").glob("*.json"))]
    assert [name for name in found if f"| `{name}` |" not in protocol] == []


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    return tables


def test_every_table_is_written_and_stands_in_one_page(tables: ModuleType) -> None:
    found = {page: re.findall(r"<!-- table: (\w+) -->", page.read_text(encoding="utf-8"))
             for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}  # fmt: skip
    assert sorted(name for names in found.values() for name in names) == sorted(tables.TABLES)
    assert {page for page, names in found.items() if names} == set(tables.PAGES)


def test_networks_of_other_libraries_have_a_line_each_whatever_became_of_them(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"network": "fcn", "library": "torchvision", "version": "1.2", "multiple": 32, "engine": "openvino",
           "parity": {"onnxruntime": {"agreement": 0.99951}}, "size": [352, 704],
           "engine_fps": 2.04, "fps": 1.96}  # fmt: skip
    results = [run, {"network": "b0", "library": "transformers", "missing": "transformers is not installed"}]
    machine = {"cpu": "a CPU", "cores": 2, "instructions": ["avx2"]}
    (tmp_path / "imported.json").write_text(json.dumps({"environment": machine, "results": results}))
    monkeypatch.setattr("table_sources.RESULTS", tmp_path)
    _, _, first, second, _, last = tables.TABLES["imported"]().split("\n")
    assert first == "| torchvision 1.2 | fcn | multiples of 32 | onnxruntime 99.95% | 352x704 | openvino | 2.0 | 2.0 |"
    assert second == "| transformers | b0 | transformers is not installed |  |  |  |  |  |"
    assert last == "a CPU, 2 cores, avx2."
