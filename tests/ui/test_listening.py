"""The listening page in a real browser: pairs are heard, judged and retracted, and no judgment is lost."""

import json
import re

import pytest

from harmonixr_platform.schemas import RaterProgress
from harmonixr_ui.consent import VERSION

pytestmark = [
    pytest.mark.browser,
    # Gradio's own use of pandas.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

LISTEN, OWN = "#hx-listen", "#hx-own"


def requests_to(service, path):
    return [body for where, body in service.requests if where == path]


def begin(page):
    page.get_by_role("tab", name="Listen and judge").click()
    page.locator(f"{LISTEN} .hx-comparisonhead .hx-primary").focus()
    page.keyboard.press("Enter")
    wait_for_pair(page)


def wait_for_pair(page, where=LISTEN):
    page.wait_for_selector(f"{where} .hx-pair:not([hidden]):not([inert])")


def listen_to_both(page, where=LISTEN):
    wait_for_pair(page, where)
    for key, side in (("1", "a"), ("2", "b")):
        page.keyboard.press(key)
        page.wait_for_selector(f"{where} .hx-side[data-side={side}].is-enough")


def test_pairs_are_judged_by_keyboard_alone_once_enough_was_heard(open_page, service):
    page = open_page()
    begin(page)
    page.keyboard.press("a")
    page.wait_for_selector("text=Listen to 75 % of the fill on both sides first")
    page.keyboard.press("Enter")
    page.keyboard.press("1")
    page.wait_for_selector(f"{LISTEN} .hx-side[data-side=a] .hx-heard:text-matches('heard \\\\d')")
    page.keyboard.press("b")
    assert service.judgments == {}
    assert page.locator(f"{LISTEN} .hx-details").is_hidden()
    listen_to_both(page)
    for _ in range(3):
        page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Saved: A is clearly better.")
    listen_to_both(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Saved: both bad.")
    page.wait_for_selector("text=2 pairs judged in this browser")
    wait_for_pair(page)
    page.keyboard.press("s")
    page.wait_for_selector("text=Saved: skipped.")
    first, second, third = service.judgments.values()
    assert [(j.choice, j.strength) for j in (first, second, third)] == [("a", 2), ("both_bad", None), ("skip", None)]
    assert min(first.listening.heard_a, first.listening.heard_b) >= 0.75
    assert (second.listening.switches, third.listening.heard_a) == (2, 0)
    assert len({j.comparison_id for j in (first, second, third)}) == 3
    assert first.consent.version == VERSION
    raters = {body["rater_key"] for _, body in service.requests if "rater_key" in body}
    assert raters == {page.evaluate("localStorage.getItem('harmonixr.rater')")}
    assert not re.search("infill-v|secret-", page.content())


def test_strength_tags_and_a_comment_are_part_of_the_judgment(open_page, service):
    page = open_page()
    begin(page)
    listen_to_both(page)
    box = page.locator(LISTEN)
    box.get_by_role("button", name="B is better").click()
    box.get_by_role("button", name="slightly").click()
    for tag in ("Timing", "Out of style", "Boring", "Boring"):
        box.get_by_role("button", name=tag).click()
    box.get_by_label("Comment").fill("a late entry")
    page.keyboard.press("s")
    assert box.get_by_label("Comment").input_value() == "a late entrys", "a focused field gets the letters"
    box.get_by_role("button", name="Save").click()
    page.wait_for_selector("text=Saved: B is slightly better.")
    (judgment,) = service.judgments.values()
    assert (judgment.strength, set(judgment.tags), judgment.comment) == (1, {"timing", "out_of_style"}, "a late entrys")


def test_repeating_one_second_does_not_count_twice_and_a_muted_page_counts_nothing(open_page, service):
    page = open_page()
    page.get_by_role("tab", name="Listen and judge").click()
    shares = page.evaluate("""async () => {
        const { Coverage } = await import(new URL('hx/assets/coverage.js', document.baseURI));
        const coverage = new Coverage(), steps = [];
        for (const [from, to] of [[1, 2], [1, 2], [1.5, 2.5], [4, 5], [2.4, 4.2], [9, 9], [7, 6]]) {
          coverage.add(from, to);
          steps.push(coverage.share(0, 10));
        }
        return [steps, coverage.rounded(), coverage.share(4.5, 4.5)];
    }""")
    assert shares[0] == pytest.approx([0.1, 0.1, 0.15, 0.25, 0.4, 0.4, 0.4])
    assert shares[1:] == [[[1, 5]], 0]
    begin(page)
    page.locator(f"{LISTEN} .hx-pair .hx-volume input").fill("0")
    page.keyboard.press("1")
    page.wait_for_timeout(1500)
    assert "not heard yet" in page.inner_text(f"{LISTEN} .hx-side[data-side=a]")
    assert page.inner_text(f"{LISTEN} .hx-hint") == "The volume is at zero, so nothing counts as heard."


def test_a_vote_that_finds_no_service_waits_in_the_browser_over_a_reload(open_page, service):
    page = open_page()
    begin(page)
    listen_to_both(page)
    service.lose_judgments = 10**6
    page.keyboard.press("t")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 judgment waits in this browser, not saved yet")
    assert page.locator("text=Saved:").count() == 0
    assert service.judgments == {}
    (kept,) = page.evaluate("Object.keys(localStorage).filter(k => k.startsWith('harmonixr.outbox.'))")
    page.reload()
    page.wait_for_selector("#hx-song .hx-title:has-text('Minuet')")
    service.lose_judgments = 0
    page.get_by_role("tab", name="Listen and judge").click()
    page.wait_for_function("k => localStorage.getItem(k) === null", arg=kept)
    sent = {body["judgment_id"] for body in requests_to(service, "/v1/judgments")}
    assert set(service.judgments) == sent
    assert len(sent) == 1
    (judgment,) = service.judgments.values()
    assert judgment.choice == "tie"


def test_a_waiting_judgment_is_reported_once_it_is_saved(open_page, service):
    page = open_page()
    begin(page)
    listen_to_both(page)
    service.lose_judgments = 2
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 judgment waits in this browser, not saved yet")
    page.wait_for_selector("text=Saved: all waiting judgments.")
    assert [j.choice for j in service.judgments.values()] == ["b"]


def test_a_judgment_can_be_retracted_for_ten_seconds_and_repeated(open_page, service):
    page = open_page()
    begin(page)
    listen_to_both(page)
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Saved: A is better.")
    page.wait_for_selector("text=Which fill is better?")
    page.keyboard.press("u")
    page.wait_for_selector("text=Taken back. Judge this pair again.")
    (first,) = service.judgments.values()
    assert service.retracted == [first.judgment_id]
    page.wait_for_selector(f"{LISTEN} .hx-side[data-side=b].is-enough")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Saved: B is better.")
    again = list(service.judgments.values())[-1]
    assert (again.comparison_id, again.choice) == (first.comparison_id, "b")
    assert again.judgment_id != first.judgment_id
    # The pair that was fetched meanwhile comes next; none is lost.
    wait_for_pair(page)
    assert len(requests_to(service, "/v1/comparisons")) == 2
    page.wait_for_selector(".hx-undo", state="hidden", timeout=15_000)


def test_a_refused_judgment_shows_the_cause_and_the_listener_can_continue(open_page, service):
    page = open_page()
    begin(page)
    listen_to_both(page)
    service.problem = ("/v1/judgments", 410, "this comparison has expired; ask for a new one")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Not saved: This comparison has expired; ask for a new one")
    assert page.evaluate("Object.keys(localStorage).filter(k => k.startsWith('harmonixr.outbox.')).length") == 0
    page.locator(LISTEN).get_by_role("button", name="Next pair").click()
    page.wait_for_selector("text=Which fill is better?")


def test_a_first_visit_asks_for_consent_volume_headphones_and_practice_and_counts_none_of_it(open_page, service):
    page = open_page(introduced=False)
    page.get_by_role("tab", name="Listen and judge").click()
    box = page.locator(LISTEN)
    box.get_by_role("button", name="Start listening").click()
    assert page.locator(f"{LISTEN} .hx-steptitle").inner_text() == "Before you take part"
    assert requests_to(service, "/v1/comparisons") == []
    box.get_by_role("button", name="I agree").click()
    box.get_by_role("button", name="Play some music").click()
    box.get_by_role("button", name="Stop the music").wait_for()
    box.get_by_role("button", name="The volume is right").click()
    for _ in range(3):
        box.get_by_role("button", name=re.compile("Play three tones|again")).click()
        box.get_by_role("button", name="Second").click()
    wait_for_pair(page)
    page.wait_for_selector("text=it is not counted")
    listen_to_both(page)
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=B was the original")
    assert requests_to(service, "/v1/judgments") == requests_to(service, "/v1/comparisons") == []
    box.get_by_role("button", name="Begin").click()
    page.wait_for_selector("text=Which fill is better?")
    kept = json.loads(page.evaluate("localStorage.getItem('harmonixr.consent')"))
    assert kept["version"] == VERSION
    assert page.evaluate("localStorage.getItem('harmonixr.headphones')") in ('"passed"', '"failed"')


def test_the_headphone_check_needs_the_quiet_tone_each_time(open_page):
    page = open_page()
    outcomes = page.evaluate("""async () => {
        const { headphoneCheck } = await import(new URL('hx/assets/headphones.js', document.baseURI));
        const outcome = answers => new Promise(resolve => {
          const check = headphoneCheck({ onEnd: resolve, play: () => ({ quiet: 1 }) });
          const [start, ...choices] = check.querySelectorAll('button');
          for (const answer of answers) { start.click(); choices[answer].click(); }
        });
        return [await outcome([1, 1, 1]), await outcome([1, 0, 1])];
    }""")
    assert outcomes == ["passed", "failed"]


def test_progress_in_a_study_is_shown(open_page, service):
    service.progress = RaterProgress(done=4, total=20)
    page = open_page()
    begin(page)
    page.wait_for_selector("text=Pair 5 of 20")
    bar = page.get_by_role("progressbar", name="Pairs judged")
    assert bar.evaluate("b => b.value / b.max") == pytest.approx(0.2)


def test_both_sides_sound_at_one_position_of_one_clock(open_page):
    """A switch keeps the place, and gains always add up to one side."""
    page = open_page()
    begin(page)
    page.keyboard.press("l")
    page.keyboard.press("1")
    seen = []
    for key in "2121":
        page.wait_for_timeout(400)
        seen.append(page.inner_text(f"{LISTEN} .hx-time"))
        page.keyboard.press(key)
        pressed = page.locator(f"{LISTEN} .hx-side[aria-pressed=true]")
        assert pressed.get_attribute("data-side") == {"1": "a", "2": "b"}[key]
        assert page.inner_text(f"{LISTEN} .hx-play") == "Pause"
    assert page.locator(f"{LISTEN} .hx-loop").get_attribute("aria-pressed") == "true"


def test_the_fill_of_ones_own_gap_that_is_kept_is_a_judgment_and_can_be_downloaded(open_page, service):
    page = open_page(introduced=False)
    page.get_by_label("From bar").fill("5")
    page.get_by_label("To bar").fill("5")
    page.get_by_role("button", name="Two blind fills").click()
    page.locator(OWN).get_by_role("button", name="I agree").click()
    wait_for_pair(page, OWN)
    (request,) = requests_to(service, "/v1/comparisons")
    assert request["infill"]["region"]["bars"] == "5-5"
    listen_to_both(page, OWN)
    assert "infill-v" not in page.content()
    page.locator(OWN).get_by_role("button", name="B is better").click()
    page.locator(OWN).get_by_role("button", name="Save").click()
    page.wait_for_selector("text=Saved: B is better.")
    assert [j.choice for j in service.judgments.values()] == ["b"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download fill B").click()
    assert download.value.path().read_bytes()[:4] == b"MThd"


def test_an_empty_pool_is_reported_and_can_be_tried_again(open_page, service):
    page = open_page()
    service.problem = ("/v1/comparisons", 404, "pool 'default' has no pairs; make some")
    page.get_by_role("tab", name="Listen and judge").click()
    page.locator(f"{LISTEN} .hx-comparisonhead .hx-primary").click()
    page.wait_for_selector("text=Pool 'default' has no pairs; make some")
    service.problem = None
    page.get_by_role("button", name="Try again").click()
    wait_for_pair(page)


def test_the_end_of_a_study_is_no_error(open_page, service):
    page = open_page()
    service.problem = ("/v1/comparisons", 409, "you have judged the 20 pairs that this study asks of one listener")
    page.get_by_role("tab", name="Listen and judge").click()
    page.locator(f"{LISTEN} .hx-comparisonhead .hx-primary").click()
    page.wait_for_selector(f"{LISTEN} .hx-message[data-mood=good]:has-text('You have judged the 20 pairs')")
    assert page.get_by_role("button", name="Try again").count() == 0


def test_a_pair_fits_a_phone_and_is_judged_by_touch_alone(open_page, service):
    page = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page.get_by_role("tab", name="Listen and judge").tap()
    page.locator(f"{LISTEN} .hx-comparisonhead .hx-primary").tap()
    wait_for_pair(page)
    for side in "ab":
        page.locator(f"{LISTEN} .hx-side[data-side={side}]").tap()
        page.wait_for_selector(f"{LISTEN} .hx-side[data-side={side}].is-enough")
    page.locator(LISTEN).get_by_role("button", name="A is better").tap()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = page.evaluate("""() => [...document.querySelectorAll('#hx-listen button')].filter(b => b.offsetParent)
        .filter(b => b.getBoundingClientRect().height < 40).map(b => b.textContent)""")
    assert small == []
    page.locator(LISTEN).get_by_role("button", name="Save").tap()
    page.wait_for_selector("text=Saved: A is better.")
    assert len(service.judgments) == 1


def test_every_control_of_the_listening_page_has_a_name_and_says_its_state(open_page):
    page = open_page()
    begin(page)
    listen_to_both(page)
    page.keyboard.press("a")
    nameless = page.evaluate("""() => [...document.querySelectorAll('#hx-listen :is(button, input, textarea, canvas)')]
        .filter(e => e.offsetParent !== null)
        .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim()))
        .map(e => e.outerHTML)""")
    assert nameless == []
    tree = page.locator(LISTEN).aria_snapshot()
    for line in (r'button "A is better" \[pressed\]', r'button "B heard \d+ % ✓"', "Piano roll", 'slider "Volume"'):
        assert re.search(line, tree), tree
