"""The grammar of `--teaching`."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from rtseg.apps._console import run
from rtseg.apps.main import build_app
from rtseg.core.errors import UsageError
from rtseg.training.distill import METHODS, SUMMARIES
from rtseg.training.distill.spec import Spec, parse_teaching


def test_methods_and_their_fields_are_read() -> None:
    assert parse_teaching("logits") == (Spec("logits", {}),)
    assert parse_teaching("logits:weight=0.5, cwd:weight=3:temperature=4,at:features=encoder/8+last") == (
        Spec("logits", {"weight": "0.5"}), Spec("cwd", {"weight": "3", "temperature": "4"}),
        Spec("at", {"features": "encoder/8+last"}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loggits", "unknown way of teaching 'loggits': did you mean logits"),
        ("logits,cdw", "did you mean cwd"),
        ("logits,", "has an empty method: write METHOD or METHOD:FIELD=VALUE"),
        ("", "has an empty method"),
        ("cwd:4", "'4' in --teaching 'cwd:4' is no FIELD=VALUE"),
        ("cwd:weight=", "'weight=' in --teaching 'cwd:weight=' is no FIELD=VALUE"),
        ("cwd:weight=1:weight=2", "'weight=2' in .* comes twice"),
        ("at,logits,at", "names at twice"),
        ("logits=1", "unknown way of teaching 'logits=1': did you mean logits"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_teaching(text)


def test_every_method_has_a_line_in_the_docs_too() -> None:
    assert list(SUMMARIES) == METHODS.names()
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count("|") == 6]
    assert rows == ["--teaching", *METHODS.names()]


@pytest.mark.skipif(find_spec("torch") is None, reason="rtseg train needs torch to be installed")
def test_the_list_needs_neither_a_network_nor_torch_to_be_loaded() -> None:
    code = (
        "import sys\n"
        "from rtseg.apps._console import run\n"
        "from rtseg.apps.main import build_app\n"
        "try:\n"
        "    run(build_app(), ['train', '--teaching', 'list'])\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 0 and 'torch' not in sys.modules\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(f" {name} " in printed for name in METHODS)


@pytest.mark.skipif(find_spec("torch") is None, reason="rtseg train needs torch to be installed")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no network is named: give --model NAME"),
        (["--model", "enet", "--teaching", "cdw"], "did you mean cwd or cs-kd?"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(build_app(), ["train", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
