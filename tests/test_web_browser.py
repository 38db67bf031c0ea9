"""The page in a real browser: pictures move, every control acts, people can use it by keys, touch and screen reader."""

import threading

import pytest
from conftest import find_browser
from fakes import FakeSource, fake_segmenter, loop_threads
from test_loop import wait_until
from test_web import Run
from waits import HANGS_S
from web_clients import serving

from rtseg.live.painter import Painter

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * HANGS_S)
    with sync_playwright() as started:
        launched = started.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def expect():
    from playwright.sync_api import expect

    return expect


@pytest.fixture
def opened(browser):
    """Opens an address in a window of its own; what the console said is in `said`."""
    contexts, said = [], []

    def open_page(url, width=1280, height=900):
        context = browser.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(1000 * HANGS_S)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append((message.type, message.text)))
        page.on("pageerror", lambda error: said.append(("error", str(error))))
        page.goto(url)
        return page

    open_page.said = said
    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def run(tmp_path):
    """A loop that a page can watch; another network waits for `ready`."""
    made, ready = [], threading.Event()

    def open_labeller(spec, frame_hw):
        assert ready.wait(HANGS_S)
        labeller = fake_segmenter(made)
        labeller.prepare(frame_hw)
        return labeller

    source = FakeSource(None, size_hw=(180, 320), delay_s=0.03)
    with Run(tmp_path, source=source, open_labeller=open_labeller, painter=Painter(hud=False)) as started:
        started.ready = ready
        yield started
    assert started.error is None
    assert loop_threads() == []


def shown_frame(page):
    return int(page.locator("#picture[data-frame]").get_attribute("data-frame"))


def test_the_picture_moves_and_says_how_old_it_is(run, opened, expect):
    page = opened(run.outlet.url)
    first = shown_frame(page)
    contents = set()
    while shown_frame(page) < first + 20 or len(contents) < 3:
        contents.add(page.locator("#picture").evaluate("canvas => canvas.toDataURL()"))
    assert page.locator("#picture").evaluate("canvas => [canvas.width, canvas.height]") == [320, 180]
    expect(page.locator("#picture[data-age-ms]")).to_have_count(1)
    assert 0 <= float(page.locator("#picture").get_attribute("data-age-ms")) < 1000 * HANGS_S
    expect(page.locator("#status")).to_have_text("Live")
    charts = page.locator("#charts figcaption")
    expect(charts).to_have_text(["Frames per second", "Capture to picture", "Capture to this page"])
    expect(page.locator("#charts .value").first).not_to_have_text("0 fps")
    expect(page.locator("#facts")).to_contain_text("fake source")
    assert opened.said == []


def test_every_control_acts(run, opened, expect, tmp_path):
    page = opened(run.outlet.url)
    shown_frame(page)
    page.get_by_role("button", name="Pause").click()
    wait_until(lambda: run.loop.paused)
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#status")).to_have_text("Paused")
    page.get_by_role("button", name="Pause").click()
    wait_until(lambda: not run.loop.paused)
    page.get_by_role("button", name="Snapshot").click()
    expect(page.locator("#note")).to_contain_text("saved rtseg-")
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("button", name="Record")).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_title("● rtseg")
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("button", name="Record")).to_have_attribute("aria-pressed", "false")
    wait_until(lambda: {path.suffix for path in run.desk.saved} == {".png", ".mp4"})
    page.get_by_role("slider", name="Opacity").fill("0.9")
    wait_until(lambda: run.painter.opacity == 0.9)
    for name, field in (("Split view", "split"), ("Legend", "legend"), ("Figures in the picture", "hud")):
        before = getattr(run.painter, field)
        page.get_by_role("switch", name=name).click()
        wait_until(lambda field=field, before=before: getattr(run.painter, field) != before)
    classes = page.get_by_role("group", name="Classes", exact=True)
    classes.get_by_role("button", name="None").click()
    wait_until(lambda: run.painter.show == [])
    classes.get_by_role("checkbox", name="car").click()
    wait_until(lambda: run.painter.show == ["car"])
    classes.get_by_role("button", name="All").click()
    wait_until(lambda: run.painter.show is None)
    assert opened.said == []


def test_another_network_engine_and_precision(run, opened, expect):
    page = opened(run.outlet.url)
    shown_frame(page)
    network = page.get_by_role("combobox", name="Network")
    expect(network).to_have_value("fake")
    network.select_option("other")
    expect(page.locator("#loading")).to_have_text("Loading other …")
    expect(network).to_be_disabled()
    frame = shown_frame(page)
    wait_until(lambda: shown_frame(page) > frame + 3)  # the old one runs on
    run.ready.set()
    expect(network).to_be_enabled()
    expect(network).to_have_value("other")
    page.get_by_role("combobox", name="Precision").select_option("fp32")
    expect(page.get_by_role("combobox", name="Precision")).to_have_value("fp32")
    page.get_by_role("combobox", name="Engine").select_option("onnxruntime")
    wait_until(lambda: run.desk._spec.engine == "onnxruntime")
    assert opened.said == []


def test_keys_do_what_they_do_in_the_window(run, opened, expect):
    page = opened(run.outlet.url)
    shown_frame(page)
    page.keyboard.press("v")
    wait_until(lambda: run.painter.split)
    page.keyboard.press("=")
    wait_until(lambda: run.painter.opacity == 0.6)
    page.keyboard.press("-")
    wait_until(lambda: run.painter.opacity == 0.5)
    page.keyboard.press("Space")
    wait_until(lambda: run.loop.paused)
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Space")  # the button's own: not twice
    wait_until(lambda: not run.loop.paused)
    page.keyboard.press("h")
    expect(page.locator("#help")).to_have_attribute("open", "")
    page.get_by_role("switch", name="Use these keys").click()
    page.keyboard.press("l")
    page.get_by_role("switch", name="Split view").click()
    wait_until(lambda: not run.painter.split)
    assert run.painter.legend  # 'l' came before the click
    assert opened.said == []


def test_all_can_be_reached_with_the_tabulator_key(run, opened):
    page = opened(run.outlet.url)
    shown_frame(page)
    page.locator("#settings select").first.wait_for()
    count = page.locator("button:visible, select, input:visible, summary").count()
    reached = set()
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.add(page.locator("*:focus").evaluate("e => [...document.querySelectorAll('*')].indexOf(e)"))
    assert len(reached) == count


def test_everything_has_a_name_for_a_screen_reader(run, opened):
    page = opened(run.outlet.url)
    shown_frame(page)
    page.locator("#settings select").first.wait_for()
    page.locator("#help summary").click()
    snapshot = page.locator("body").aria_snapshot()
    for words in (
        'heading "rtseg" [level=1]', 'heading "Figures" [level=2]', 'heading "Settings" [level=2]',
        'img "The labelled picture, from fake source"', 'group "Actions"', 'button "Pause"', 'button "Snapshot"',
        'combobox "Network"', 'combobox "Engine"', 'combobox "Precision"', 'slider "Opacity"', 'switch "Split view"',
        'group "Classes"', 'button "All: Classes"', 'checkbox "pedestrian"', 'switch "Use these keys"',
    ):  # fmt: skip
        assert words in snapshot, snapshot
    roles = {"button", "combobox", "slider", "switch", "checkbox", "img", "textbox"}
    assert snapshot.count("status") == 1  # nothing that changes all the time is read out
    assert not roles & {line.strip(" -:") for line in snapshot.splitlines()}  # none without a name
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568), (1280, 900)])
def test_it_fits(run, opened, width, height):
    page = opened(run.outlet.url, width, height)
    shown_frame(page)
    page.locator("#settings select").first.wait_for()
    assert page.locator("html").evaluate("e => e.scrollWidth") <= width
    for place in page.locator("button:visible, select, label:visible").all():
        box = place.bounding_box()
        assert box["height"] >= 24, place  # WCAG 2.2, 2.5.8
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    box = page.locator("#picture").bounding_box()
    assert box["width"] > 0.65 * width
    page.locator("#help").scroll_into_view_if_needed()
    if width < 800:
        assert page.locator("#picture").bounding_box()["y"] < 60  # the picture stays in view


def test_a_link_with_a_token_opens_the_page_and_the_token_goes_from_the_address(opened, expect):
    with serving("0.0.0.0") as (server, listener):
        page = opened(f"http://127.0.0.1:{server.port}/?token={listener.token}")
        expect(page).to_have_url(f"http://127.0.0.1:{server.port}/")
        wait_until(lambda: (page.wait_for_timeout(10), server._states.followers)[1] == 1)
        page.reload()
        wait_until(lambda: (page.wait_for_timeout(10), server._pictures.made.followers)[1] == 1)
        assert page.locator("h1").inner_text() == "rtseg"
        assert page.evaluate("document.cookie") == ""  # HttpOnly
        stranger = opened(f"http://127.0.0.1:{server.port}/")
        expect(stranger.locator("body")).to_contain_text("this page needs its token")


def test_a_server_that_goes_is_told(run, opened, expect):
    page = opened(run.outlet.url)
    shown_frame(page)
    run.loop.stop()
    run.thread.join()
    expect(page.locator("#status")).to_have_text("Not connected")
    expect(page.locator("#veil")).to_be_visible()
