"""What can be written into a picture: the letters of OpenCV are those of ASCII, and it draws ??? for all others."""

from unicodedata import combining, normalize

from rtseg.core.labels import LabelSet

_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})


def legend_names(labels: LabelSet) -> tuple[str, ...]:
    """The classes as a legend calls them: without accents, and by number ('class 3') where other letters are left."""
    plain = [_plain(name) for name in labels.names]
    return tuple(name if name.isascii() else f"class {index}" for index, name in enumerate(plain))


def unwritten(labels: LabelSet) -> str | None:
    """A line that says which classes a legend calls by their numbers; None where it has all names."""
    found = {index: name for index, name in enumerate(labels.names) if not _plain(name).isascii()}
    if not found:
        return None
    told = ", ".join(f"class {index} is {name}" for index, name in found.items())
    return f"legends in pictures have Latin letters only: {told}"


def _plain(name: str) -> str:
    return "".join(sign for sign in normalize("NFKD", name.translate(_PLAIN)) if not combining(sign))
