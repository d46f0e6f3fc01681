"""The page's own components: Gradio's HTML with a module of ours behind it. Knows nothing of the service.

They are made by functions, since Gradio writes a type stub beside every module that subclasses a component.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

# The module draws into a child of its own, so that Gradio's re-rendering of the template never touches it. The words
# in the comment are the events: Gradio looks for them, quoted, in this text.
_MOUNT = """
import(new URL('hx/assets/{module}', document.baseURI)).then(m => m.mount({{element, props, trigger, watch}}));
/* {events} */
"""


def song_view(*, elem_id: str) -> gr.HTML:
    """Return a song drawn as a piano roll, with what fills its gap: players, choice and download.

    Value: `name`, `midi_base64`, `song` (an inspection) and, once filled, `answer`. Property `selection`: the gap.
    Events: `open` (a file was dropped or picked), `pick` (bars were marked on the roll), `refuse` (say why).
    """
    return _component("song.js", "'open' 'pick' 'refuse'", elem_id=elem_id, selection=None)


def duel(value: dict[str, Any] | None = None, *, elem_id: str) -> gr.HTML:
    """Return two blind fills of one gap, played in step and voted on.

    Value: `pool` (a study's pairs) or `infill` (a request for two fills of one's own gap), with the wording of
    `consent`; or None.
    """
    return _component("duel.js", "", value=value, elem_id=elem_id)


def _component(module: str, events: str, **more: Any) -> gr.HTML:
    js = _MOUNT.format(module=module, events=events)
    return gr.HTML(html_template="", apply_default_css=False, js_on_load=js, **more)
