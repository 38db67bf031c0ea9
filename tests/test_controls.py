"""The table of controls: allowed values, keys, and that the same table serves window and page."""

from types import SimpleNamespace

import pytest

from rtseg.core.errors import UsageError
from rtseg.live.views.controls import Button, Choice, Controls, Selection, Slider, Switch

LOOP = object()  # passed through


class Table:
    """One control of each kind on the attributes of `values`."""

    def __init__(self):
        self.values = values = SimpleNamespace(on=False, share=0.5, name="b", names=["x", "y"], pressed=0)

        def access(field):
            return lambda loop: getattr(values, field), lambda loop, value: setattr(values, field, value)

        self.controls = Controls(
            [
                Button("act", "Act", {"a": 1}, lambda loop: setattr(values, "pressed", values.pressed + 1)),
                Switch("on", "On", {"o": 1}, *access("on")),
                Slider("share", "Share", {"+": 1, "-": -1}, *access("share"), low=0.0, high=1.0, step=0.2),
                Choice("name", "Name", {"n": 1, "p": -1}, *access("name"), ["a", "b", "c"]),
                Selection("names", "Names", *access("names"), lambda loop: {"x": "#000001", "y": "#000002"}),
            ]
        )


@pytest.fixture
def table():
    return Table()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("act", None, "pressed", 1),
        ("on", True, "on", True),
        ("share", 0, "share", 0.0),
        ("share", 0.75, "share", 0.75),
        ("name", "c", "name", "c"),
        ("names", ["y", "x"], "names", ["x", "y"]),  # in the table's order
        ("names", [], "names", []),
    ],
)
def test_values_that_are_allowed(table, name, value, field, expected):
    table.controls.change(LOOP, name, value)
    assert getattr(table.values, field) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("nothing", 1, "unknown control 'nothing'"),
        (["on"], True, "unknown control"),
        ("act", 1, "act takes no value"),
        ("on", 1, "on is true or false, not 1"),
        ("share", 1.5, "share is a number from 0 to 1, not 1.5"),
        ("share", float("nan"), "not nan"),
        ("share", 10**400, "a number from 0 to 1"),
        ("share", True, "not True"),
        ("share", "0.5", "not '0.5'"),
        ("name", "d", "allowed: a, b, c"),
        ("name", {}, "unknown name"),
        ("names", "x", "names is a list"),
        ("names", ["x", "z"], "unknown names 'z'"),
        ("names", [["x"]], "unknown names"),
    ],
)
def test_values_that_are_not(table, name, value, words):
    before = vars(table.values).copy()
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        table.controls.change(LOOP, name, value)
    assert vars(table.values) == before


@pytest.mark.parametrize(
    ("keys", "field", "expected"),
    [
        ("aa", "pressed", 2),
        ("o", "on", True),
        ("oo", "on", False),
        ("+", "share", 0.7),
        ("=", "share", 0.7),
        ("+++", "share", 1.0),
        ("----", "share", 0.0),
        ("n", "name", "c"),
        ("nn", "name", "a"),
        ("pp", "name", "c"),
        ("xyz", "pressed", 0),
    ],
)
def test_keys(table, keys, field, expected):
    for key in keys:
        table.controls.press(LOOP, key)
    assert getattr(table.values, field) == expected


def test_what_is_no_key_does_nothing(table):
    before = vars(table.values).copy()
    for key in (None, 3, ["o"], {"o": 1}, ""):
        table.controls.press(LOOP, key)
    assert vars(table.values) == before


def test_the_state_is_what_a_page_shows(table):
    button, switch, slider, choice, selection = table.controls.state(LOOP)
    assert button == {"kind": "button", "name": "act", "label": "Act", "keys": ["a"]}
    assert switch["value"] is False
    assert {name: slider[name] for name in ("value", "low", "high", "step")} == {
        "value": 0.5, "low": 0.0, "high": 1.0, "step": 0.2}  # fmt: skip
    assert choice["options"] == ["a", "b", "c"]
    assert selection["options"] == {"x": "#000001", "y": "#000002"}
    assert selection["value"] == ["x", "y"]


def test_a_choice_that_is_set_already_is_left_alone(table):
    calls = []
    one = Choice("one", "One", {"k": 1}, lambda loop: "a", lambda loop, value: calls.append(value), ["a"])
    one.change(LOOP, "a")
    with pytest.raises(UsageError, match="there is no other one"):
        one.press(LOOP, 1)
    assert calls == []


def test_names_and_keys_are_there_once(table):
    def button(name, key):
        return Button(name, name, {key: 1}, lambda loop: None)

    for pair in ([button("a", "x"), button("b", "x")], [button("a", "x"), button("a", "y")]):
        with pytest.raises(ValueError, match="same name or key"):
            Controls(pair)
    assert table.controls.keys() == {"a": "Act", "o": "On", "+ -": "Share", "n p": "Name"}
