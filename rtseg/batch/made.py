"""Records how outputs were made or begun, so that outputs of two networks or settings never mix under one name."""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rtseg.batch.jobs import SAVES, Job
from rtseg.batch.journal import Journal
from rtseg.batch.layout import JOURNAL
from rtseg.batch.plan import Choice, fingerprint, picture_paths
from rtseg.core.errors import InputError, OutputError
from rtseg.core.files import read_json, write_json
from rtseg.core.sizes import format_size

log = logging.getLogger(__name__)

FOLDER = ".rtseg-video"  # beside the outputs; one file per input
FACTS = ("input", "size_hw", "settings")  # the journal's facts that decide the outputs
_DIGITS = 12  # digits of a hash


def read_made(job: Job) -> dict[str, dict[str, Any]]:
    """Kind of output -> the `FACTS` that it was made with, for outputs that exist and have a readable record."""
    try:
        noted = read_json(_path(job))
        return {kind: {name: noted[kind][name] for name in FACTS} for kind in SAVES
                if kind in noted and job.target(kind).exists()}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # from an older version, or somebody's own file: nothing is known


def note_made(job: Job, facts: Mapping[str, Any]) -> None:
    """Records that a job's outputs are those of `facts`; raises OutputError."""
    made = {**read_made(job), **{kind: dict(facts) for kind in job.save}}
    write_json(_path(job), {kind: made[kind] for kind in SAVES if kind in made})  # the same bytes after a break


def _path(job: Job) -> Path:
    return job.folder / FOLDER / f"{job.name}.json"


def _differences(before: Mapping[str, Any], choice: Choice, stamp: str, save: Collection[str]) -> list[str]:
    """What has changed, in words.

    Args:
        before: `FACTS` of an earlier run.
        choice: what is wanted now; whatever the user leaves open stays as before.
        stamp: the input's fingerprint now.
        save: kinds of outputs to compare.
    """
    if before["input"] != stamp:
        return ["the input has changed"]
    old = before["settings"]
    choice = choice.as_begun(old)
    new = choice.settings(choice.network(tuple(before["size_hw"]), choice.spec.threads or old["threads"]))
    versions = new.pop("versions")
    if "confidence" not in save and choice.look.unsure is None:
        del new["temperature"]  # it affects nothing else
    pairs = {name: (old.get(name), value) for name, value in new.items()}
    pairs |= {name: (old["versions"].get(name), value) for name, value in versions.items()}
    return [_difference(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def begun_otherwise(job: Job, choice: Choice, stamp: str) -> bool:
    """Whether there is unfinished work that cannot be continued."""
    if not (job.partial / JOURNAL).is_file():
        return False
    try:
        with Journal(job.partial) as journal:
            return bool(journal.fact("state") and differences_of_begun(journal, job, choice, stamp))
    except OutputError as error:
        log.info("%s", error)
        return True


def differences_of_begun(journal: Journal, job: Job, choice: Choice, stamp: str) -> list[str]:
    """What has changed since the work was begun, in words."""
    found = _differences({name: journal.fact(name) for name in FACTS}, choice, stamp, job.save)
    if (save := journal.fact("save")) != list(job.save):
        found.append(_difference("save", save, job.save))
    return found


def notes_of_old(job: Job, choice: Choice) -> list[str]:
    """What the user should know about existing outputs, which stay."""
    if _newer(job):
        return [f"{job.source} is newer than its outputs: --overwrite makes them again"]
    return [
        f"{job.target(kind)} was made with other settings ({said}): --overwrite makes it again"
        for kind, said in _made_otherwise(job, choice).items() if kind in job.save
    ]  # fmt: skip


def check_addition(job: Job, missing: Sequence[str], choice: Choice) -> None:
    """Raises OutputError if `missing` outputs would join others of another network or other settings."""
    for kind, said in _made_otherwise(job, choice).items():
        raise OutputError(
            f"{job.target(kind)} was made with other settings ({said}), so {', '.join(missing)} would not match it: "
            "choose another --output, or add --overwrite to make everything again that --save names"
        )


def as_made(job: Job, choice: Choice) -> Choice:
    """The choice with which outputs must be made to match those that exist."""
    made = read_made(job)
    return choice.as_begun(next(iter(made.values()))["settings"]) if made else choice


def _newer(job: Job) -> bool:
    """Whether an input was changed after its outputs were made."""
    with suppress(OSError):
        return job.source.stat().st_mtime > min(target.stat().st_mtime for target in job.targets)
    return False


def _made_otherwise(job: Job, choice: Choice) -> dict[str, str]:
    """Kind of existing output -> how it was made, if that is known and differs from what is wanted now."""
    made = read_made(job)
    if not made:
        return {}
    try:
        stamp = fingerprint(job.source, picture_paths(job))
    except InputError:
        return {}  # opening it raises the error
    found = {kind: "; ".join(_differences(facts, choice, stamp, [kind])) for kind, facts in made.items()}
    return {kind: said for kind, said in found.items() if said}


def _difference(name: str, old: Any, new: Any) -> str:
    """'size 64x128, now 32x64'."""
    return f"{name.removesuffix('_hw')} {_said(name, old)}, now {_said(name, new)}"


def _said(name: str, value: Any) -> str:
    if value is None:
        return {"show": "all", "steady": "off", "temperature": "1"}.get(name, "none")
    if name == "size_hw":
        return format_size(value)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return value[:_DIGITS] if name == "sha256" else str(value)
