"""The page's own components: Gradio's HTML component with a JavaScript module.

Functions make them, since Gradio writes a type stub beside every module that subclasses a component.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

# The module draws into a child element, which Gradio's rendering of the template does not touch. The comment lists the
# events: Gradio searches this text for their quoted names.
_MOUNT = """
import(new URL('hx/assets/{module}', document.baseURI)).then(m => m.mount({{element, props, trigger, watch}}));
/* {events} */
"""


def song_view(*, elem_id: str) -> gr.HTML:
    """Return a piano roll of a song, with the fills of its gap to play, choose and download.

    Value: `name`, `midi_base64`, `song` (an inspection), and `partial` or `result` of a fill.
    Property `selection`: the gap.
    Events: `open` (a file was dropped or picked), `pick` (bars were marked on the roll), `refuse` (with the cause).
    """
    return _component("song.js", "'open' 'pick' 'refuse'", elem_id=elem_id, selection=None)


def comparison(value: dict[str, Any] | None = None, *, elem_id: str) -> gr.HTML:
    """Return two blind fills of one gap, to play in sync and to judge.

    Value: `pool` (the pairs of a study) or `infill` (a request for two fills of the user's gap), with the wording of
    `consent`; or None.
    """
    return _component("comparison.js", "", value=value, elem_id=elem_id)


def _component(module: str, events: str, **more: Any) -> gr.HTML:
    js = _MOUNT.format(module=module, events=events)
    return gr.HTML(html_template="", apply_default_css=False, js_on_load=js, **more)
