"""A few cases of each kind of benchmarks/fuzz.py, which runs thousands."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fuzz

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    outcomes = fuzz.run_cases(name, range(1000, 1008), seed=0)
    assert set(outcomes) <= {"read", "refused"}, outcomes
    assert outcomes.total() == 8


def test_the_same_seed_makes_the_same_case_and_another_one_another() -> None:
    content = bytes(range(256)) * 8
    made = [fuzz.mutate(content, random.Random(f"png 0 {number}")) for number in range(50)]
    assert made == [fuzz.mutate(content, random.Random(f"png 0 {number}")) for number in range(50)]
    assert len({*made, content}) > 45


def test_a_journal_with_a_value_that_is_no_text_is_refused(tmp_path: Path) -> None:
    fuzz.TARGETS["journal"].make(tmp_path)
    path = tmp_path / fuzz.TARGETS["journal"].damaged
    path.write_bytes(path.read_bytes().replace(b'"frames"', b'"fr\xb9mes"'))
    assert fuzz.attempt(fuzz.TARGETS["journal"], tmp_path) == "refused"
