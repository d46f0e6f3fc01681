"""The listening page: blind pairs from a pool, one after another. All that happens, happens in the component."""

from __future__ import annotations

import gradio as gr

from harmonixr_ui.components import duel
from harmonixr_ui.consent import wording


def listen_page(pool: str) -> None:
    """Lay the page out inside the tab being built."""
    gr.HTML(
        '<p class="hx-lead">Two fills of the same gap, made by models you are not told. '
        "Listen to both, then say which you would keep.</p>",
        apply_default_css=False,
    )
    duel({"pool": pool, "consent": wording()}, elem_id="hx-listen")
