"""The report page: the leaderboard, agreement of listeners and flags, rendered by the service."""

from __future__ import annotations

import html

import gradio as gr

from harmonixr_platform.client import ServiceError
from harmonixr_ui.api import Api, sentence

_EMPTY = '<p class="hx-lead">No judgments loaded yet.</p>'


def report_page(service: Api) -> None:
    """Lay out the page inside the current tab."""
    gr.HTML(
        '<p class="hx-lead">Which model listeners prefer, how certain that is, and whether listeners agree. '
        "Judgments by programs are listed separately and labelled.</p>",
        apply_default_css=False,
    )
    with gr.Row():
        study = gr.Textbox(label="Study or pool", placeholder="all", max_lines=1, elem_id="hx-report-study")
        read = gr.Button("Load the judgments", variant="primary", elem_id="hx-report-read")
    shown = gr.HTML(_EMPTY, elem_id="hx-report", apply_default_css=False)

    async def show(name: str) -> str:
        try:
            return framed(await service.leaderboard_page(name.strip() or None))
        except ServiceError as error:
            return f'<div class="hx-alert" role="alert">{html.escape(sentence(error))}</div>'

    gr.on([read.click, study.submit], show, inputs=study, outputs=shown, api_visibility="private")


def framed(page: str) -> str:
    """Return a page in a sandboxed frame, where it cannot run scripts or change our style."""
    return (
        f'<iframe title="What listeners prefer" sandbox srcdoc="{html.escape(page, quote=True)}" '
        'style="width:100%;height:80vh;border:1px solid var(--hx-line);border-radius:12px;background:#fff"></iframe>'
    )
