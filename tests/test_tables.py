import json
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
