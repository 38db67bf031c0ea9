"""An input in work: its plan, fixed in the journal, what is done, and the tasks for the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from rtseg.batch.jobs import SAVES, Job
from rtseg.batch.journal import Journal, open_journal
from rtseg.batch.layout import Layout, remove_partial
from rtseg.batch.made import begun_otherwise, differences_of_begun
from rtseg.batch.plan import Choice, fingerprint, picture_paths, plan_input, stops_of
from rtseg.batch.sound import Way, plan_sound
from rtseg.batch.task import Segment, SegmentDone, Task
from rtseg.core.errors import InputError, OutputError
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, format_size
from rtseg.live.labellers.steady import first_seen
from rtseg.sinks.video import NOMINAL_FPS
from rtseg.sources.span import Span
from rtseg.sources.video_index import index_video

TASK_S = 60.0  # length of a worker's pass if several share a video
_STRIP = 8


class Work:
    """An input whose plan is in its journal.

    Attributes:
        job: names of input and outputs.
        journal: open until `close`.
        frames: expected number of frames.
        kept: frames that an earlier run has finished.
        pictures: the picture files; empty for a video.
        missing: numbers of the segments that are not done yet.
    """

    def __init__(self, number: int, job: Job, choice: Choice, threads: int) -> None:
        """Opens the journal, or begins one.

        Raises:
            InputError: the input cannot be read, or has changed since it was begun.
            OutputError: the folder of unfinished work is not ours, or was begun with other settings.
        """
        self.number = number
        self.job = job
        self.pictures = picture_paths(job)
        stamp = fingerprint(job.source, self.pictures)
        if choice.overwrite and begun_otherwise(job, choice, stamp):
            self.remove()
        self.journal = open_journal(job.partial)
        try:
            if self.journal.fact("state") is None:
                facts, arrays = plan_input(job, self.pictures, choice, threads)
                self.journal.begin({"state": "begun", "input": stamp, "save": job.save, **facts}, arrays)
            else:
                self._check(choice, stamp)
            self._read_plan(choice)
        except BaseException:
            self.journal.close()
            self._remove_if_unused()
            raise

    def _check(self, choice: Choice, stamp: str) -> None:
        if self.journal.fact("state") == "assembled":
            return
        if differences := differences_of_begun(self.journal, self.job, choice, stamp):
            raise OutputError(
                f"{self.job.partial} was begun with other settings ({'; '.join(differences)}): use those again, "
                "or add --overwrite to start over"
            )

    def _read_plan(self, choice: Choice) -> None:
        fact = self.journal.fact
        settings = fact("settings")
        self.job = replace(self.job, save=tuple(fact("save")))
        self.frames: int = fact("frames")
        self.announced: int | None = fact("announced")
        self.fps: float | None = fact("fps")
        self.size_hw: Size = tuple(fact("size_hw"))
        self.time_base = Fraction(fact("time_base"))
        self.duration: int = fact("duration")
        self.aspect = Fraction(fact("aspect")) if fact("aspect") else None
        self.single = self.job.pictures and not self.job.is_folder
        self.look = choice.look
        self.steady = bool(settings.get("steady"))
        self.network = RunSpec(
            choice.spec.model, settings["engine"], settings["precision"], tuple(settings["size_hw"]),
            settings["threads"], settings.get("exit"),
        )  # fmt: skip
        self.layout = Layout(self.job.partial, self.job.name, self.single)
        self._pts, self._keys = self.journal.array("pts"), self.journal.array("keys")
        stops = self.journal.array("stops")
        assert stops is not None
        firsts = [0, *stops[:-1].tolist()]
        bounds = zip(firsts, stops.tolist(), strict=True)
        self.segments = [Segment(number, first, stop) for number, (first, stop) in enumerate(bounds)]
        self._find_missing()

    def _find_missing(self) -> None:
        """Finds missing segments; a recorded one counts only if its files exist with their full size."""
        self.missing = {segment.number: segment for segment in self.segments}
        self.kept = 0
        self._last: dict[int, int | None] = {}
        spoilt = []
        assembling = self.journal.fact("state") == "assembled"
        for done in self.journal.segments():
            if assembling or self._is_whole(done):
                del self.missing[done.segment.number]
                self._last[done.segment.number] = done.last
                self.kept += len(done.indices)
            else:
                spoilt.append(done.segment.number)
        if spoilt:
            self.journal.drop(spoilt)

    def _is_whole(self, done: SegmentDone) -> bool:
        try:
            return done.size == sum(path.stat().st_size for path in self._files(done))
        except OSError:
            return False

    def _files(self, done: SegmentDone) -> list[Path]:
        return self.layout.files(self.job.save, done, self.strip, self.job.pictures)

    @property
    def strip(self) -> tuple[int, ...]:
        """Frames for the picture strip: the middles of equal parts."""
        if "strip" not in self.job.save:
            return ()
        return tuple(sorted({int((part + 0.5) * self.frames / _STRIP) for part in range(_STRIP)}))

    @property
    def start_s(self) -> Fraction:
        """Time of the first picture on the input's own clock, seconds."""
        start: int = self.journal.fact("start")
        return start * self.time_base

    @property
    def sound(self) -> tuple[Way, ...]:
        """What happens to the input's sound; earlier versions did not decide this at the beginning."""
        planned = self.journal.fact("sound")
        return plan_sound(self.job.source) if planned is None else tuple(Way(**way) for way in planned)

    @property
    def divisible(self) -> bool:
        """Whether several workers may share it: its frames can be found without counting from the start."""
        return self._pts is not None and self.journal.fact("seekable") is not False

    def tasks(self, divide: bool) -> Iterator[Task]:
        """Tasks for what is missing; with `divide`, of about a minute each if possible."""
        run: list[Segment] = []
        limit = TASK_S * (self.fps or NOMINAL_FPS) if divide and self.divisible else float("inf")
        for segment in sorted(self.missing.values(), key=lambda segment: segment.number):
            if run and (segment.number != run[-1].number + 1 or segment.stop - run[0].first > limit):
                yield self._task(run)
                run = []
            run.append(segment)
        if run:
            yield self._task(run)

    def _task(self, segments: Sequence[Segment]) -> Task:
        first, stop = segments[0].first, segments[-1].stop
        begin = first_seen(first) if self.steady else first
        span = Span(
            first=first, stops=tuple(segment.stop for segment in segments), size_hw=self.size_hw, fps=self.fps,
            time_base=self.time_base, warm_up=first - begin,
        )  # fmt: skip
        if self._pts is not None:
            number = segments[0].number
            span = replace(
                span, pts=self._pts[begin:stop], origin=int(self._pts[0]), start=self._start(number, begin),
                before=self._last.get(number - 1),
            )  # fmt: skip
        return Task(
            job=self.number, name=self.job.name, source=self.job.source, pictures=self.pictures,
            partial=self.job.partial, single=self.single, save=self.job.save, network=self.network, look=self.look,
            span=span, segments=tuple(segments), strip=self.strip, aspect=self.aspect,
            steady=self.steady,
        )  # fmt: skip

    def _start(self, number: int, first: int) -> int | None:
        """The key frame at which to start decoding segment `number`: the second-last one up to the first wanted frame.

        None, meaning the file's start, if the picture before is known to be damaged: a decoder's result for damaged
        data depends on what came before.
        """
        assert self._pts is not None
        assert self._keys is not None
        damaged = number - 1 in self._last and self._last[number - 1] is None
        if first == 0 or damaged or not self.divisible:
            return None
        keys = self._keys[self._keys <= self._pts[first]]
        return int(keys[-2]) if len(keys) >= 2 else None

    def add(self, done: SegmentDone) -> None:
        """Records a segment in the journal; one that comes twice is recorded once."""
        if self.journal.add(done):
            self._last[done.segment.number] = done.last
            self.missing.pop(done.segment.number, None)

    def frames_done(self) -> int:
        """Frames of all finished segments."""
        return sum(len(done.indices) for done in self.journal.segments())

    @property
    def input_notes(self) -> list[str]:
        """What the user should know about the input."""
        return self.journal.fact("input_notes") or []

    @property
    def changed(self) -> str | None:
        """A note if the input differs from the one that the work was begun with."""
        try:
            if fingerprint(self.job.source, self.pictures) == self.journal.fact("input"):
                return None
        except InputError:
            return None  # the file is gone, which is reported elsewhere
        return (
            f"{self.job.source} has changed since it was begun: outputs may be of what it was and of what it is; "
            "--overwrite makes them again"
        )

    @property
    def padded(self) -> str | None:
        """A note if the overlay is larger than the frames."""
        if "overlay" in self.job.save and not self.job.pictures and any(side % 2 for side in self.size_hw):
            name, size = self.job.output_name("overlay"), format_size(self.size_hw)
            return f"{name}: H.264 needs even sizes, so {size} is padded by one pixel"
        return None

    def broken_seams(self) -> list[int]:
        """Segments whose pass decoded another picture before them than the previous pass had as its last."""
        broken, last = [], None
        for done in self.journal.segments():
            if done.segment.number and done.before != last and None not in (done.before, last):
                broken.append(done.segment.number)
            last = done.last
        return broken

    def distrust(self) -> None:
        """Redoes segments from the first broken one, without seeking; if that was not enough, redoes all of them.

        Raises:
            InputError: that was not enough either; nothing is kept.
        """
        if self.journal.fact("anew"):
            self._forget_from(0)
            raise InputError(
                f"{self.job.source} gives other pictures each time it is decoded, so its segments cannot be joined: "
                "copy it to another disk, or convert it"
            )
        anew = not self.divisible
        self._forget_from(0 if anew else min(self.broken_seams()))
        self.journal.state(seekable=False, anew=anew)

    def _forget_from(self, first: int) -> None:
        dropped = self.segments[first:]
        self.journal.drop([segment.number for segment in dropped])
        for segment in dropped:
            self.missing[segment.number] = segment
            self._last.pop(segment.number, None)

    def count_instead(self) -> None:
        """Starts over with counted frames, since decoded pictures do not have their packets' timestamps."""
        index = replace(index_video(self.job.source, decode=True), pts=None, keys=np.empty(0, np.int64))
        names = ("input", "save", "settings", "size_hw", "fps", "time_base", "start", "duration", "aspect",
                 "sound", "input_notes")  # fmt: skip
        facts = {name: self.journal.fact(name) for name in names}
        facts |= {"frames": index.frames, "announced": index.announced}
        stops = stops_of(index, self.fps or NOMINAL_FPS)
        self.journal.begin({"state": "begun", **facts}, {"stops": stops, "keys": index.keys})

    def remove(self) -> None:
        """Removes the unfinished work."""
        try:
            remove_partial(self.job.partial, [self.job.output_name(kind) for kind in SAVES])
        except OSError as error:
            raise OutputError(f"cannot remove {self.job.partial}: {error.strerror or error}") from error

    def _remove_if_unused(self) -> None:
        with Journal(self.job.partial) as journal:
            unused = next(journal.segments(), None) is None
        if unused:
            self.remove()

    def close(self) -> None:
        """Closes the journal; without a finished segment, all unfinished work is removed."""
        empty = next(self.journal.segments(), None) is None
        self.journal.close()
        if empty:
            self.remove()
