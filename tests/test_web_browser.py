"""The page in a real browser: pictures move, every control works, and keys, touch and screen readers can use it."""

import threading
from pathlib import Path

import pytest
from conftest import find_browser
from fakes import FakeSource, fake_segmenter, loop_threads
from test_loop import wait_until
from test_web import Run
from waits import HANGS_S
from web_clients import serving

from rtseg.live.painter import Painter
from rtseg.live.views import browser as browser_files

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
    """Opens an address in a new window, after a script; `said` holds the console's messages."""
    contexts, said = [], []

    def open_page(url, width=1280, height=900, script=""):
        context = browser.new_context(viewport={"width": width, "height": height})
        context.add_init_script(script)
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
    age_ms = float(page.locator("#picture").get_attribute("data-age-ms"))
    assert abs(age_ms) < 1000 * HANGS_S  # the clock is known to half a round trip, which is long on a busy machine
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
    wait_until(lambda: shown_frame(page) > frame + 3)  # the old one keeps running
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
    page.keyboard.press("Space")  # handled by the button, not twice
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
    assert snapshot.count("status") == 1  # nothing that changes constantly is read out
    assert not roles & {line.strip(" -:") for line in snapshot.splitlines()}  # all have names
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


# The video


def shown_of_video(page):
    return int(page.locator("#video[data-frame]").get_attribute("data-frame"))


def video_is(page, words):
    """The value of an expression on the element `video`."""
    return page.locator("#video").evaluate(f"video => {words}")


def test_the_video_plays(run, opened, expect):
    page = opened(f"{run.outlet.url}#video")
    first, began, contents = shown_of_video(page), video_is(page, "video.currentTime"), set()
    while shown_of_video(page) < first + 20 or len(contents) < 3:
        contents.add(
            page.locator("#video").evaluate("""video => {
            const canvas = new OffscreenCanvas(32, 18), pen = canvas.getContext("2d");
            pen.drawImage(video, 0, 0, 32, 18);
            return pen.getImageData(0, 0, 32, 18).data.join();
        }""")
        )
    assert video_is(page, "video.currentTime") > began
    assert video_is(page, "[video.videoWidth, video.videoHeight]") == [320, 180]
    expect(page.locator("#picture")).to_be_hidden()
    expect(page.locator("#video")).to_be_visible()
    expect(page.locator("#video[data-age-ms]")).to_have_count(1)
    expect(page.locator("#status")).to_have_text("Live")
    expect(page.locator("#facts")).to_contain_text("Video (H.264)")
    expect(page.locator("#video")).to_have_attribute("aria-label", "The labelled picture, from fake source")
    assert run.outlet._server._pictures.made.followers == 0
    assert opened.said == []


def test_the_form_is_chosen_and_is_in_the_address(run, opened, expect):
    page = opened(run.outlet.url)
    shown_frame(page)
    form = page.get_by_role("combobox", name="Picture sent as")
    expect(form).to_have_value("jpeg")
    form.select_option("video")
    expect(page).to_have_url(f"{run.outlet.url}#video")
    frame = shown_of_video(page)
    wait_until(lambda: shown_of_video(page) > frame)
    expect(page.locator("#picture")).to_be_hidden()
    page.reload()
    shown_of_video(page)
    form.select_option("jpeg")
    expect(page.locator("#video")).to_be_hidden()
    expect(page).to_have_url(run.outlet.url)
    wait_until(lambda: (page.wait_for_timeout(10), run.outlet._server._video.made.followers)[1] == 0)
    assert opened.said == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("delete window.MediaSource", "this browser plays none"),
        ("MediaSource.isTypeSupported = () => false", "this browser does not play video/mp4"),
        ("SourceBuffer.prototype.appendBuffer = () => { throw new DOMException('it is full'); }", "it is full"),
        ("HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException('no', 'NotAllowedError'))", "no"),
        ("""const Plain = WebSocket;
            window.WebSocket = class extends Plain { constructor(url) { super(`${url}-nowhere`); } }""",
         "no connection for it"),
        # a header that no decoder understands
        ("""const append = SourceBuffer.prototype.appendBuffer;
            SourceBuffer.prototype.appendBuffer = function (data) { append.call(this, new Uint8Array(99)); }""", ""),
    ],
)  # fmt: skip
def test_where_there_is_no_video_the_page_says_so_and_shows_jpeg_pictures(run, opened, expect, script, reason):
    page = opened(f"{run.outlet.url}#video", script=script)
    expect(page.locator("#facts")).to_contain_text("JPEG pictures")
    expect(page.locator("#facts")).to_contain_text(f"no video: {reason}")
    expect(page.get_by_role("combobox", name="Picture sent as")).to_have_value("jpeg")
    frame = shown_frame(page)
    wait_until(lambda: shown_frame(page) > frame)
    expect(page.locator("#video")).to_be_hidden()
    expect(page.locator("#picture")).to_be_visible()


def test_the_video_goes_on_with_another_network_and_another_size(run, opened, expect):
    page = opened(f"{run.outlet.url}#video")
    shown_of_video(page)
    network = page.get_by_role("combobox", name="Network")
    expect(network).to_have_value("fake")
    run.ready.set()
    network.select_option("other")
    expect(network).to_have_value("other")
    frame = shown_of_video(page)
    wait_until(lambda: shown_of_video(page) > frame + 3)
    run.source.size_hw = (96, 400)
    wait_until(lambda: video_is(page, "[video.videoWidth, video.videoHeight]") == [400, 96])
    frame = shown_of_video(page)
    wait_until(lambda: shown_of_video(page) > frame + 3)
    expect(page.get_by_role("combobox", name="Picture sent as")).to_have_value("video")
    assert opened.said == []


def test_the_video_of_a_pause_shows_what_is_changed(run, opened, expect):
    page = opened(f"{run.outlet.url}#video")
    shown_of_video(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#status")).to_have_text("Paused")
    pixel = """(() => {
        const canvas = new OffscreenCanvas(1, 1), pen = canvas.getContext("2d");
        pen.drawImage(video, 0, 0, 20, 20, 0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    })()"""
    page.get_by_role("slider", name="Opacity").fill("0")
    wait_until(lambda: max(video_is(page, pixel)[:3]) < 20)  # the source's own colour, which is dark
    page.get_by_role("slider", name="Opacity").fill("1")
    wait_until(lambda: max(video_is(page, pixel)[:3]) > 40)  # the colour of a class
    assert opened.said == []


def test_the_video_comes_back_to_its_edge_and_keeps_nothing_old(run, opened):
    page = opened("about:blank")
    script = (Path(browser_files.__file__).parent / "video.js").read_text().replace("KEEP_S = 10", "KEEP_S = 1")
    page.route("**/video.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    page.goto(f"{run.outlet.url}#video")
    shown_of_video(page)
    began = video_is(page, "video.buffered.start(0)")
    wait_until(lambda: video_is(page, "video.currentTime") > began + 1)
    # two jumps: this one, and the one back
    video_is(page, "{ video.jumps = 0; video.onseeking = () => { video.jumps += 1; }; video.currentTime -= 1; }")
    wait_until(lambda: video_is(page, "video.jumps") >= 2)
    wait_until(lambda: video_is(page, "video.buffered.start(0)") > began)
    assert opened.said == []
