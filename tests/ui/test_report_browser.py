"""The report page in a real browser: it shows the service's page, or its error."""

import pytest
from fastapi import Response

from harmonixr_platform.feedback.records.reader import Feedback
from harmonixr_platform.feedback.reports.html_report import report_html
from harmonixr_platform.feedback.reports.report import report

pytestmark = [
    pytest.mark.browser,
    # Gradio's own use of pandas.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


def test_the_report_is_read_when_asked_for_and_refusals_are_said(open_page, service):
    studies = []

    def answer(study: str | None = None) -> Response:
        studies.append(study)
        if study == "closed":
            return Response('{"title": "refused", "status": 404, "detail": "no such study"}', 404)
        return Response(report_html(report(Feedback((), (), ()))), media_type="text/html")

    service.app.get("/v1/leaderboard/page")(answer)
    page = open_page()
    page.get_by_role("tab", name="Results").click()
    page.get_by_role("button", name="Load the judgments").click()
    shown = page.frame_locator("#hx-report iframe")
    shown.get_by_text("No judgment compares two model versions yet").wait_for()
    page.get_by_label("Study or pool").fill("closed")
    page.get_by_label("Study or pool").press("Enter")
    page.wait_for_selector("#hx-report .hx-alert")
    assert studies == [None, "closed"]
