"""The page that fills gaps in a real browser: mark, fill, listen, download; nothing leaves this machine."""

import base64

import pytest

from harmonixr_model import examples

pytestmark = [
    pytest.mark.browser,
    # Gradio's own use of pandas.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


def requests_to(service, path):
    return [body for where, body in service.requests if where == path]


def test_a_gap_is_filled_heard_in_place_and_downloaded(open_page, service):
    page = open_page()
    page.get_by_label("From bar").fill("9")
    page.get_by_label("To bar").fill("10")
    page.get_by_label("2 · Left hand").check()
    page.get_by_label("Seed").fill("42")
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_selector("text=3 fills of bars 9-10")
    (request,) = requests_to(service, "/v1/infill")
    assert request["region"]["bars"] == "9-10"
    assert request["region"]["tracks"] == [1, 2]
    assert request["sampling"]["seed"] == 42
    page.get_by_role("button", name="Hear fill 2").click()
    page.wait_for_selector("#hx-song .hx-play:has-text('Pause')")
    first = page.inner_text("#hx-song .hx-time")
    page.wait_for_function("t => document.querySelector('#hx-song .hx-time').textContent !== t", arg=first)
    (preview,) = requests_to(service, "/v1/preview")
    assert 0 < preview["start_s"] < preview["end_s"]
    assert page.locator(".hx-card.is-chosen").inner_text().startswith("Fill 2")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download fill 2").click()
    assert download.value.suggested_filename.endswith("fill-2.mid")
    assert download.value.path().read_bytes()[:4] == b"MThd"


# How much of the roll has the colour of a fill.
PAINTED = """() => {
    const canvas = document.querySelector('#hx-song canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        count += Math.abs(data[i] - 232) + Math.abs(data[i + 1] - 80) + Math.abs(data[i + 2] - 47) < 12;
    return count;
}"""


def test_notes_come_onto_the_roll_while_the_fill_is_being_made(open_page, service):
    service.bar_pause_s = 3.0
    page = open_page()
    page.get_by_label("2 · Left hand").check()
    bare = page.evaluate(PAINTED)
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_function(f"count => ({PAINTED})() > count + 20", arg=bare)
    first = page.evaluate(PAINTED)
    page.wait_for_function(f"count => ({PAINTED})() > count + 20", arg=first)
    # Two more fills are still to come.
    assert page.locator(".hx-card").count() == 0
    page.wait_for_selector(".hx-card")


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
    assert base64.b64decode(requests_to(service, "/v1/infill")[0]["midi_base64"]) == path.read_bytes()
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


def test_the_gap_stays_marked_through_changes_that_come_thick_and_fast(open_page, service):
    """Once a change that came while another was on its way was dropped, and with it the tracks of the gap."""
    page = open_page()
    canvas = page.locator("#hx-song canvas")
    for last in ("6", "7", "6", "7"):
        for track in ("1 · Right hand", "2 · Left hand"):
            page.get_by_label(track).click()
        page.get_by_label("To bar").fill(last)
        page.get_by_label("From bar").fill(str(int(last) - 2))
    page.get_by_label("2 · Left hand").check()
    page.wait_for_function("c => /gap in bars 5 to 7 of tracks 1, 2$/.test(c.ariaLabel)", arg=canvas.element_handle())
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_selector("text=3 fills of bars 5-7")
    assert requests_to(service, "/v1/infill")[0]["region"]["tracks"] == [1, 2]
    page.get_by_label("Seed").fill("3")
    page.wait_for_timeout(500)
    assert canvas.get_attribute("aria-label").endswith("gap in bars 5 to 7 of tracks 1, 2")


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


def test_the_same_request_again_is_a_new_pair(open_page, service):
    page = open_page()
    for count in (1, 2):
        page.get_by_role("button", name="Two blind fills").click()
        page.wait_for_selector("#hx-own .hx-pair:not([hidden])")
        page.wait_for_timeout(200)
        assert len(requests_to(service, "/v1/comparisons")) == count


def test_the_pages_fit_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    for tab in ("Fill a gap", "Listen and judge", "Results"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_everything_that_can_be_pressed_or_filled_in_has_a_name(open_page):
    page = open_page()
    page.get_by_role("button", name="Fill the gap").click()
    page.wait_for_selector(".hx-card")
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, textarea, [role=button]')]
        .filter(e => e.offsetParent !== null)
        .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim()))
        .map(e => e.outerHTML)""")
    assert nameless == []
