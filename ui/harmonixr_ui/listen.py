"""The listening page: blind pairs from a pool, one after another, in one component."""

from __future__ import annotations

import gradio as gr

from harmonixr_ui.components import comparison
from harmonixr_ui.consent import wording


def listen_page(pool: str) -> None:
    """Lay out the page inside the current tab."""
    gr.HTML(
        '<p class="hx-lead">Two fills of the same gap, made by models that stay hidden. '
        "Listen to both, then choose the one you would keep.</p>",
        apply_default_css=False,
    )
    comparison({"pool": pool, "consent": wording()}, elem_id="hx-listen")
