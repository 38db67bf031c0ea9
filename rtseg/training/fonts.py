"""Letters of figures: matplotlib's own font has no Chinese, Japanese, Korean or Indian ones and draws boxes instead."""

import logging
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)

_NO_LETTERS = "Last Resort"  # a font whose boxes say only which script a letter is of


@lru_cache(16)
def lettered(names: tuple[str, ...], kind: str = "class") -> tuple[tuple[str, ...], list[str]]:
    """Names as they can be written here, and the font families that have their letters together.

    A name with a letter that no font of this machine has becomes its number, such as 'class 3'; that is logged once.
    """
    first = _path("sans-serif")
    family = ["sans-serif"]
    missing = {sign for name in names for sign in name if not sign.isspace()} - _letters(first)
    for entry in font_manager.fontManager.ttflist if missing else ():
        if entry.name.startswith(_NO_LETTERS) or not missing & _letters(entry.fname):
            continue
        if found := missing & _letters(_path(entry.name)):  # what matplotlib takes for the family: not its bold
            family.append(entry.name)
            missing -= found
    written = tuple(f"{kind} {index}" if missing & set(name) else name for index, name in enumerate(names))
    if unwritten := [f"{name!r} is {number!r}" for name, number in zip(names, written, strict=True) if name != number]:
        log.warning("no font of this machine has the letters of some names, so in figures %s: install one, such as "
                    "Noto Sans CJK", ", ".join(unwritten))  # fmt: skip
    return written, family


def _path(family: str) -> str:
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


def _letters(path: str) -> set[str]:
    try:
        return {chr(code) for code in FT2Font(path).get_charmap()}
    except (OSError, RuntimeError):  # a font that is damaged, or was taken away
        return set()
