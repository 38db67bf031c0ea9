"""Shared by all tests: pinned thread counts, and markers that skip if hardware or a package is missing."""

import asyncio
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch load: workers share the cores
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that a test requests do not spin while the others work

import pytest

gc.disable()  # until everything is collected: imports and collected tests stay, and would be scanned again and again

_SLOW_FILE = re.compile(r"^pytestmark = \[?pytest\.mark\.slow\b", re.MULTILINE)
_SLOW_LIMIT_S = 1800  # ends tests that hang, with a margin for busy machines
_LONGEST = ("training", "export", "training_resume", "shipped", "batch_workers", "engines", "training_steps",
            "packaging", "video_resume", "training_unlabelled", "video", "web", "commands", "odd_clocks", "bad_input",
            "deadline", "batch", "watchdog", "cam", "web_video", "deadline_loop")  # fmt: skip
_FIXTURES = ("camvid_tree", "fake_gpu", "odd_media")  # files beside this one with fixtures for all tests
_KEPT = 300  # pictures of scenes, 0.4 MB each: those of twenty seeds
_SLOW_FIXTURES = {"networks", "wheel"}  # they export networks, and build the package


def find_browser() -> str | None:
    """The path of Chromium."""
    return which("chromium") or which("chromium-browser") or which("google-chrome")


def _missing(marker: str) -> str | None:
    """Why tests with this marker cannot run here; None if they can."""
    if marker == "openvino":
        return None if find_spec("openvino") else "openvino is not installed"
    if marker == "tensorrt" and not find_spec("tensorrt"):
        return "tensorrt is not installed"
    if marker == "browser" and not (find_spec("playwright") and find_browser()):
        return "no browser: install Debian's chromium and the package playwright"
    if marker in ("gpu", "tensorrt"):
        from rtseg.engines.cuda.device import gpu_problem

        return gpu_problem()
    return None


def _place(item: pytest.Item) -> int:
    """The longest files come first: if one started last, the other workers would run out of work."""
    name = item.path.stem.removeprefix("test_")
    return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("numprocesses", None):  # that process only starts workers and needs no fixtures
        for name in _FIXTURES:
            config.pluginmanager.import_plugin(name)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Entirely slow files are not imported if slow tests are left out: torch alone takes seconds."""
    if collection_path.suffix != ".py" or "not slow" not in config.option.markexpr:
        return None
    return True if _SLOW_FILE.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    for item in items:
        if _SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_LIMIT_S))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("gpu", "tensorrt", "openvino", "browser"):
        if item.get_closest_marker(marker) and (reason := _missing(marker)):
            pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests, and processes that they start, away from the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTSEG_CACHE", str(_shared(tmp_path_factory) / "cache"))
        yield


def _drawn_once(draw: Callable[..., Any]) -> Callable[..., Any]:
    """`draw(rng, ...)` with cached pictures; the generator continues as if it had drawn them."""
    kept: dict[str, tuple[Any, Any]] = {}

    @wraps(draw)
    def drawn(rng: Any, *arguments: Any) -> Any:
        key = repr((rng.bit_generator.state, arguments))
        if key not in kept:
            if len(kept) == _KEPT:
                kept.clear()
            kept[key] = draw(rng, *arguments), rng.bit_generator.state
        picture, rng.bit_generator.state = kept[key]
        return picture

    return drawn


@pytest.fixture(scope="session", autouse=True)
def _houses_of_scenes() -> Iterator[None]:
    """House fronts and trees take most of a scene's set-up, and depend on the seed but not on the size."""
    from rtseg.scenes import textures

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_crown", "_paint_facade"):
            patch.setattr(textures, name, _drawn_once(getattr(textures, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _options_of_commands() -> Iterator[None]:
    """What options a command has is found anew whenever it is called: more than half of what most bad input costs.

    It follows from the command's function, so each call gets a copy of what was found first.
    """
    from cyclopts import App

    find, found = App.assemble_argument_collection, dict[Any, Any]()

    def copied(app: App, **settings: Any) -> Any:
        key = app.default_command, repr((settings, app.help_flags, app.version_flags))
        if key not in found:
            found[key] = find(app, **settings)
        settled = {id(option.parameter): option.parameter for option in found[key]}  # frozen, and most of it
        return deepcopy(found[key], settled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(App, "assemble_argument_collection", copied)
        yield


@pytest.fixture(scope="session", autouse=True)
def _pages_end_at_once() -> Iterator[None]:
    """uvicorn looks ten times a second whether it is to end, and waits as long again: more than most tests take."""
    server = sys.modules.get("uvicorn.server")  # which the tests of the page have imported
    if server is None:
        yield
        return
    hasty = ModuleType("asyncio")
    hasty.__dict__.update(vars(asyncio), sleep=lambda seconds: asyncio.sleep(seconds / 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "asyncio", hasty)
        yield


@pytest.fixture(autouse=True)
def _levels_of_no_command() -> None:
    """Earlier tests may have run commands that set log levels, which `caplog` must not inherit."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.split(".")[0] == "rtseg" and isinstance(logger, logging.Logger) and logger.level:
            logger.setLevel(logging.NOTSET)  # only if needed, because it walks all loggers


@pytest.fixture(autouse=True)
def _engines_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default all engines are equally fast, so that 'auto' takes the first."""
    from rtseg.engines import auto
    from rtseg.engines.rate import Fps, Measured

    def alike(artifact: object, engine: str, precisions: Sequence[str], options: object) -> Measured:
        return Measured(dict.fromkeys(precisions, Fps(10.0, 10.0)))

    monkeypatch.setattr(auto, "measure_rates", alike)


@pytest.fixture(autouse=True)
def _figures_of_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib takes two thirds of a training run of a few steps: only tests marked `figures` draw."""
    if "rtseg.training.summary" not in sys.modules or request.node.get_closest_marker("figures"):
        return
    from rtseg.training import report, summary

    for module, name in ((report, "draw_confusion"), (summary, "draw_confusion"), (summary, "draw_curves")):
        monkeypatch.setattr(module, name, lambda *drawn: None)


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ONNX file with its card, for `--model`: every engine but torch runs it, in almost no time."""
    from fakes import make_network

    return make_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with icnet.onnx (an eighth of the width) and enet.onnx; `tiny.network_file` adds others.

    All workers share it.
    """
    from tiny import network_file

    folder = _shared(tmp_path_factory) / "networks"
    for name in ("icnet", "enet"):
        network_file(folder, name)
    return folder
