"""What `--teaching` may say."""

import pytest

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


def test_every_method_has_a_line() -> None:
    assert list(SUMMARIES) == METHODS.names()
