"""What users can change while watching: one table serves the window's keys and the page's controls."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name
from rtseg.live.loop import Loop

_SAME_KEY = {"=": "+"}  # on keyboards where + needs Shift


class Control(ABC):
    """One thing that users can change.

    Attributes:
        kind: how a page shows it.
        name: its name in requests.
        label: its name for people.
        keys: key -> step, as for `press`.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, label: str, keys: Mapping[str, int] | None = None) -> None:
        self.name, self.label, self.keys = name, label, dict(keys or {})

    def state(self, loop: Loop) -> dict[str, Any]:
        """What a page needs to show it, as plain JSON values."""
        about = {"kind": self.kind, "name": self.name, "label": self.label, "keys": list(self.keys)}
        return {**about, **self._state(loop)}

    def _state(self, loop: Loop) -> dict[str, Any]:
        return {}

    @abstractmethod
    def change(self, loop: Loop, value: Any) -> None:
        """Sets it to a value of any type, as received; raises UsageError if the value is not allowed."""

    @abstractmethod
    def press(self, loop: Loop, step: int) -> None:
        """Handles its key: moves it by `step` from its current value."""


class Button(Control):
    """Does something once; its value is None."""

    kind = "button"

    def __init__(self, name: str, label: str, keys: Mapping[str, int], act: Callable[[Loop], None]) -> None:
        super().__init__(name, label, keys)
        self._act = act

    def change(self, loop: Loop, value: Any) -> None:
        if value is not None:
            raise UsageError(f"{self.name} takes no value, not {value!r}")
        self._act(loop)

    def press(self, loop: Loop, step: int) -> None:
        self._act(loop)


class Switch(Control):
    """A setting that is on or off."""

    kind = "switch"

    def __init__(
        self,
        name: str,
        label: str,
        keys: Mapping[str, int],
        get: Callable[[Loop], bool],
        put: Callable[[Loop, bool], None],
    ) -> None:
        super().__init__(name, label, keys)
        self._get, self._put = get, put

    def _state(self, loop: Loop) -> dict[str, Any]:
        return {"value": self._get(loop)}

    def change(self, loop: Loop, value: Any) -> None:
        if not isinstance(value, bool):
            raise UsageError(f"{self.name} is true or false, not {value!r}")
        if value != self._get(loop):  # two viewers may press at the same time
            self._put(loop, value)

    def press(self, loop: Loop, step: int) -> None:
        self._put(loop, not self._get(loop))


class Slider(Control):
    """A number within a range."""

    kind = "slider"

    def __init__(
        self,
        name: str,
        label: str,
        keys: Mapping[str, int],
        get: Callable[[Loop], float],
        put: Callable[[Loop, float], None],
        *,
        low: float,
        high: float,
        step: float,
    ) -> None:
        super().__init__(name, label, keys)
        self._get, self._put = get, put
        self._low, self._high, self._step = low, high, step

    def _state(self, loop: Loop) -> dict[str, Any]:
        return {"value": self._get(loop), "low": self._low, "high": self._high, "step": self._step}

    def change(self, loop: Loop, value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self._low <= value <= self._high:
            raise UsageError(f"{self.name} is a number from {self._low:g} to {self._high:g}, not {value!r}")
        self._put(loop, float(value))

    def press(self, loop: Loop, step: int) -> None:
        value = round(self._get(loop) + step * self._step, 6)
        self._put(loop, min(self._high, max(self._low, value)))


class Choice(Control):
    """One of several names."""

    kind = "choice"

    def __init__(
        self,
        name: str,
        label: str,
        keys: Mapping[str, int],
        get: Callable[[Loop], str],
        put: Callable[[Loop, str], None],
        options: Sequence[str],
    ) -> None:
        super().__init__(name, label, keys)
        self._get, self._put, self._options = get, put, list(options)

    def _state(self, loop: Loop) -> dict[str, Any]:
        return {"value": self._get(loop), "options": self._options}

    def change(self, loop: Loop, value: Any) -> None:
        if value not in self._options:
            raise unknown_name(self.name, value, self._options)
        if value != self._get(loop):
            self._put(loop, value)

    def press(self, loop: Loop, step: int) -> None:
        if len(self._options) < 2:
            raise UsageError(f"there is no other {self.name}")
        place = self._options.index(self._get(loop)) + step
        self._put(loop, self._options[place % len(self._options)])


class Selection(Control):
    """Any of several names, each with a colour '#rrggbb'."""

    kind = "selection"

    def __init__(
        self,
        name: str,
        label: str,
        get: Callable[[Loop], list[str]],
        put: Callable[[Loop, list[str]], None],
        options: Callable[[Loop], dict[str, str]],
    ) -> None:
        super().__init__(name, label)
        self._get, self._put, self._options = get, put, options

    def _state(self, loop: Loop) -> dict[str, Any]:
        return {"value": self._get(loop), "options": self._options(loop)}

    def change(self, loop: Loop, value: Any) -> None:
        if not isinstance(value, list):
            raise UsageError(f"{self.name} is a list of names, not {value!r}")
        options = self._options(loop)
        for name in value:
            if not isinstance(name, str) or name not in options:
                raise unknown_name(self.name, name, list(options))
        self._put(loop, [name for name in options if name in value])

    def press(self, loop: Loop, step: int) -> None:
        raise UsageError(f"{self.name} has no key")


class Controls:
    """The table of controls; pages find them by name, the window by key.

    Raises:
        ValueError: two controls share a name or a key.
    """

    def __init__(self, table: Sequence[Control]) -> None:
        self._table = {control.name: control for control in table}
        self._keys = {key: (control, step) for control in table for key, step in control.keys.items()}
        if len(self._table) < len(table) or len(self._keys) < sum(len(control.keys) for control in table):
            raise ValueError("two controls have the same name or key")

    def change(self, loop: Loop, name: Any, value: Any) -> None:
        """Sets a control by name; raises UsageError for an unknown name or a value that is not allowed."""
        if not isinstance(name, str) or name not in self._table:
            raise unknown_name("control", name, list(self._table))
        self._table[name].change(loop, value)

    def press(self, loop: Loop, key: Any) -> None:
        """Handles a key; an unused key is no error, as on any keyboard."""
        found = self._keys.get(_SAME_KEY.get(key, key)) if isinstance(key, str) else None
        if found is not None:
            found[0].press(loop, found[1])

    def state(self, loop: Loop) -> list[dict[str, Any]]:
        """The state of each control, in the table's order."""
        return [control.state(loop) for control in self._table.values()]

    def keys(self) -> dict[str, str]:
        """Keys, such as '+ -' -> what they do."""
        return {" ".join(control.keys): control.label for control in self._table.values() if control.keys}
