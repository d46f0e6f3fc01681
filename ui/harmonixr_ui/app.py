"""The application: tabs, theme and the routes of the pages."""

from __future__ import annotations

import os

import gradio as gr
from fastapi import FastAPI

from harmonixr_ui.api import Api
from harmonixr_ui.fill import fill_page
from harmonixr_ui.listen import listen_page
from harmonixr_ui.report import report_page
from harmonixr_ui.routes import ASSETS, make_router
from harmonixr_ui.theme import make_theme

_HEADER = """
<header class="hx-header"><h1>Harmonixr</h1>
<p>Mark a gap in a piece of MIDI, listen to fills for it, and choose the better one.</p></header>
"""


def build(api_url: str, *, pool: str = "default") -> gr.Blocks:
    """Return the pages for the service at `api_url`, without the routes that `make_app` adds."""
    service = _service(api_url)
    blocks: gr.Blocks
    with gr.Blocks(title="Harmonixr", analytics_enabled=False) as blocks:
        gr.HTML(_HEADER, apply_default_css=False)
        with gr.Tab("Fill a gap", id="fill"):
            fill_page(service, blocks)
        with gr.Tab("Listen and judge", id="listen"):
            listen_page(pool)
        with gr.Tab("Results", id="report"):
            report_page(service)
    return blocks


def make_app(api_url: str, *, pool: str = "default") -> FastAPI:
    """Return the whole server: the pages and their routes."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(make_router(_service(api_url)))
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        build(api_url, pool=pool),
        path="/",
        theme=make_theme(),
        css_paths=[ASSETS / "page.css", ASSETS / "listen.css"],
        footer_links=[],
        ssr_mode=False,
        show_error=False,
    )
    return mounted


def _service(api_url: str) -> Api:
    # The pages use their own key, or in the environment of the service the first key that it accepts. Only the
    # environment holds it: other users can read a command line. No browser ever gets it.
    keys = os.environ.get("HARMONIXR_API_KEY") or os.environ.get("HARMONIXR_API_KEYS", "").split(",")[0]
    return Api(api_url, api_key=keys.strip() or None)
