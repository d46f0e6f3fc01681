"""The report page: standings, wins, agreement and flags of what was judged, as the service draws them."""

from __future__ import annotations

import html

import gradio as gr

from harmonixr_platform.client import ServiceError
from harmonixr_ui.api import Api, sentence

_EMPTY = '<p class="hx-lead">Nothing read yet.</p>'


def report_page(service: Api) -> None:
    """Lay the page out inside the tab being built."""
    gr.HTML(
        '<p class="hx-lead">Which model listeners prefer, how sure that is, and whether they agree. '
        "Answers of programs are shown apart and labelled.</p>",
        apply_default_css=False,
    )
    with gr.Row():
        study = gr.Textbox(label="Study or pool", placeholder="all", max_lines=1, elem_id="hx-report-study")
        read = gr.Button("Read the judgments", variant="primary", elem_id="hx-report-read")
    shown = gr.HTML(_EMPTY, elem_id="hx-report", apply_default_css=False)

    async def show(name: str) -> str:
        try:
            return framed(await service.leaderboard_page(name.strip() or None))
        except ServiceError as error:
            return f'<div class="hx-alert" role="alert">{html.escape(sentence(error))}</div>'

    gr.on([read.click, study.submit], show, inputs=study, outputs=shown, api_visibility="private")


def framed(page: str) -> str:
    """Return a page inside a frame of its own, where it can neither run scripts nor restyle ours."""
    return (
        f'<iframe title="What listeners prefer" sandbox srcdoc="{html.escape(page, quote=True)}" '
        'style="width:100%;height:80vh;border:1px solid var(--hx-line);border-radius:12px;background:#fff"></iframe>'
    )
