import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

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


def test_every_table_is_written_and_stands_in_one_page() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    found = {page: re.findall(r"<!-- table: (\w+) -->", page.read_text(encoding="utf-8"))
             for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}  # fmt: skip
    assert sorted(name for names in found.values() for name in names) == sorted(tables.TABLES)
    assert {page for page, names in found.items() if names} == set(tables.PAGES)
