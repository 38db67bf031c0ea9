"""Class names as OpenCV can write them into a picture: it has ASCII letters only, and draws ??? for all others."""

from unicodedata import combining, normalize

from rtseg.core.labels import LabelSet

_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})


def legend_names(labels: LabelSet) -> tuple[str, ...]:
    """The class names for a legend: without accents, and 'class 3' if other non-ASCII letters remain."""
    plain = [_plain(name) for name in labels.names]
    return tuple(name if name.isascii() else f"class {index}" for index, name in enumerate(plain))


def unwritten(labels: LabelSet) -> str | None:
    """A line that says which classes a legend shows by number; None if it can write all names."""
    found = {index: name for index, name in enumerate(labels.names) if not _plain(name).isascii()}
    if not found:
        return None
    told = ", ".join(f"class {index} is {name}" for index, name in found.items())
    return f"legends in pictures have Latin letters only: {told}"


def _plain(name: str) -> str:
    return "".join(sign for sign in normalize("NFKD", name.translate(_PLAIN)) if not combining(sign))
