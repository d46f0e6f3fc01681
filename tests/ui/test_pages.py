"""The pages in a real browser: fill, hear, judge by keyboard; nothing leaves this machine."""

import base64
import re

import pytest

from harmonixr_model import examples

pytestmark = [
    pytest.mark.browser,
    # Gradio's own use of pandas.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, service, serve):
    """Open the pages on the fake service; afterwards, no request may have gone elsewhere and no script failed."""
    from harmonixr_ui.app import make_app

    service.pool_song = base64.b64encode(examples.load("song-1")).decode()
    address = serve(make_app(serve(service.app)))
    contexts, outside, errors = [], [], []

    def start(**options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True) if not options \
            else browser.new_context(**options)  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:")) else outside.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(address)
        page.wait_for_selector("#hx-song .hx-title:has-text('Minuet')")
        page.wait_for_selector("#hx-tracks input >> nth=1")
        return page

    yield start
    for context in contexts:
        context.close()
    assert outside == []
    assert errors == []


def asked(service, path):
    return [body for where, body in service.requests if where == path]


def test_a_gap_is_filled_heard_in_place_and_downloaded(open_page, service):
    page = open_page()
    page.get_by_label("From bar").fill("9")
    page.get_by_label("To bar").fill("10")
    page.get_by_label("2 · Left hand").check()
    page.get_by_label("Seed").fill("42")
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_selector("text=3 fills of bars 9-10")
    (request,) = asked(service, "/v1/infill")
    assert request["region"]["bars"] == "9-10"
    assert request["region"]["tracks"] == [1, 2]
    assert request["sampling"]["seed"] == 42
    page.get_by_role("button", name="Hear fill 2").click()
    page.wait_for_selector("#hx-song .hx-play:has-text('Pause')")
    first = page.inner_text("#hx-song .hx-time")
    page.wait_for_function("t => document.querySelector('#hx-song .hx-time').textContent !== t", arg=first)
    (preview,) = asked(service, "/v1/preview")
    assert 0 < preview["start_s"] < preview["end_s"]
    assert page.locator(".hx-card.is-chosen").inner_text().startswith("Fill 2")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download fill 2").click()
    assert download.value.suggested_filename.endswith("fill-2.mid")
    assert download.value.path().read_bytes()[:4] == b"MThd"


def test_a_file_of_ones_own_is_opened_and_never_kept_on_the_server(open_page, service, tmp_path):
    page = open_page()
    uploads = []
    page.on("request", lambda r: uploads.append(r.url) if "upload" in r.url else None)
    path = tmp_path / "my song.mid"
    path.write_bytes(examples.load("song-2"))
    page.get_by_label("Open a MIDI file").set_input_files(path)
    page.wait_for_selector("#hx-song .hx-title:has-text('my song.mid')")
    page.wait_for_selector("text=4 · Drums")
    assert "4 tracks" in page.locator("#hx-song canvas").get_attribute("aria-label")
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_selector(".hx-card")
    assert base64.b64decode(asked(service, "/v1/infill")[0]["midi_base64"]) == path.read_bytes()
    assert uploads == []


def test_a_problem_is_shown_as_its_sentence_and_goes_with_the_next_good_answer(open_page, service):
    page = open_page()
    service.problem = ("/v1/infill", 422, "bars 90-91 lie outside the song, which has 32 bars")
    page.get_by_role("button", name="Fill the gap").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text() == "Bars 90-91 lie outside the song, which has 32 bars"
    service.problem = None
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_selector(".hx-card")
    assert page.get_by_role("alert").count() == 0


def test_bars_are_marked_by_dragging_on_the_roll(open_page):
    page = open_page()
    box = page.locator("#hx-song canvas").bounding_box()
    bar = box["width"] / 32
    page.mouse.move(box["x"] + 10.5 * bar, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 12.5 * bar, box["y"] + 100, steps=4)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('#hx-first input').value === '11'")
    assert page.get_by_label("To bar").input_value() == "13"


def listen_to_both(page, where):
    page.wait_for_selector(f"{where} .hx-stage:not([hidden])")
    for key, side in (("1", "a"), ("2", "b")):
        page.keyboard.press(key)
        page.wait_for_selector(f"{where} .hx-side[data-side={side}] .hx-heard:text-matches('heard \\\\d')")


def test_pairs_are_judged_by_keyboard_alone_and_saved_is_said_after_the_server_did(open_page, service):
    page = open_page()
    page.get_by_role("tab", name="Listen and judge").click()
    page.locator("#hx-listen .hx-duelhead .hx-begin").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#hx-listen .hx-stage:not([hidden])")
    page.keyboard.press("a")
    page.wait_for_selector("text=Listen to the gap in both fills first")
    assert service.judgments == {}
    listen_to_both(page, "#hx-listen")
    service.lose_judgments = 2
    page.keyboard.press("a")
    page.wait_for_selector("text=Not saved: The vote store does not answer")
    page.keyboard.press("a")
    page.wait_for_selector("text=Saved: a is better. Here is the next pair.")
    sent = [body["judgment_id"] for body in asked(service, "/v1/judgments")]
    assert len(sent) == 3
    assert len(set(sent)) == 1
    listen_to_both(page, "#hx-listen")
    page.keyboard.press("n")
    page.wait_for_selector("text=Saved: both bad")
    page.wait_for_selector("text=2 pairs judged in this browser")
    first, second = service.judgments.values()
    assert (first.choice, second.choice) == ("a", "both_bad")
    assert first.listening.heard_a > 0
    assert first.listening.heard_b > 0
    assert first.listening.seconds > 0
    assert first.comparison_id != second.comparison_id
    raters = {body["rater_key"] for _, body in service.requests if "rater_key" in body}
    assert raters == {page.evaluate("localStorage.getItem('harmonixr.rater')")}
    assert not re.search("infill-v|secret-", page.content())


def test_the_fill_of_ones_own_gap_that_is_kept_is_a_judgment_and_can_be_downloaded(open_page, service):
    page = open_page()
    page.get_by_role("button", name="Two blind fills").click()
    page.wait_for_selector("#hx-own .hx-stage:not([hidden])")
    (request,) = asked(service, "/v1/comparisons")
    assert request["infill"]["region"]["bars"] == "5-8"
    listen_to_both(page, "#hx-own")
    assert "infill-v" not in page.content()
    page.get_by_role("button", name="B is better").click()
    page.wait_for_selector("text=Saved: b is better")
    assert [j.choice for j in service.judgments.values()] == ["b"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download fill B").click()
    assert download.value.path().read_bytes()[:4] == b"MThd"


def test_the_same_request_again_is_a_new_pair(open_page, service):
    page = open_page()
    for count in (1, 2):
        page.get_by_role("button", name="Two blind fills").click()
        page.wait_for_selector("#hx-own .hx-stage:not([hidden])")
        page.wait_for_timeout(200)
        assert len(asked(service, "/v1/comparisons")) == count


def test_an_empty_pool_is_said_and_can_be_tried_again(open_page, service):
    page = open_page()
    service.problem = ("/v1/comparisons", 404, "pool 'default' has no pairs; make some")
    page.get_by_role("tab", name="Listen and judge").click()
    page.locator("#hx-listen .hx-duelhead .hx-begin").click()
    page.wait_for_selector("text=Pool 'default' has no pairs; make some")
    service.problem = None
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#hx-listen .hx-stage:not([hidden])")


def test_the_pages_fit_a_phone(open_page):
    page = open_page(viewport={"width": 375, "height": 740}, is_mobile=True, has_touch=True)
    for tab in ("Fill a gap", "Listen and judge"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_everything_that_can_be_pressed_or_filled_in_has_a_name(open_page):
    page = open_page()
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_selector(".hx-card")
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, textarea, [role=button]')]
        .filter(e => e.offsetParent !== null)
        .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim()))
        .map(e => e.outerHTML)""")
    assert nameless == []
