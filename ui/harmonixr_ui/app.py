"""Put the pages together: tabs, theme and the routes they fetch sound from."""

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
<p>Mark a gap in a piece of MIDI, hear what could fill it, and say which is better.</p></header>
"""


def build(api_url: str, *, pool: str = "default") -> gr.Blocks:
    """Return the pages over the service at `api_url`; `make_app` adds the routes they fetch sound from."""
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
    # A key of the pages' own; beside the service, where they share its environment, any of the keys it takes will do.
    # From the environment alone: a command line is there for everyone to read, and no browser is ever sent it.
    keys = os.environ.get("HARMONIXR_API_KEY") or os.environ.get("HARMONIXR_API_KEYS", "").split(",")[0]
    return Api(api_url, api_key=keys.strip() or None)
