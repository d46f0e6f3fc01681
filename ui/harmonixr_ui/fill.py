"""The page that fills a gap: choose a song, mark bars and tracks, request fills, or two blind ones to judge."""

from __future__ import annotations

import base64
import html
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import gradio as gr

from harmonixr_model import examples
from harmonixr_model.grammar.control import Control
from harmonixr_platform.client import ServiceError
from harmonixr_platform.schemas import DEFAULT_TEMPERATURE, InfillRequest, InfillResponse, temperature_text
from harmonixr_ui.api import Api, sentence
from harmonixr_ui.components import comparison, song_view
from harmonixr_ui.consent import wording
from harmonixr_ui.fill_stream import fill_states
from harmonixr_ui.form import (
    COPY_STRENGTH,
    PAGE_CONTROLS,
    Form,
    FormError,
    default_gap,
    infill_request,
    song_value,
    track_label,
)
from harmonixr_ui.routes import roll_note

_FIRST_EXAMPLE = "minuet-in-g"
_CHANGES = [
    ("the notes", ""),
    ("only their pitches", "pitch"),
    ("only their rhythm", "rhythm"),
    ("only their loudness", "velocity"),
    ("only their lengths", "duration"),
]


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of the form, in the order of `Form`; the fields of PAGE_CONTROLS come last."""

    first: gr.Number
    last: gr.Number
    tracks: gr.CheckboxGroup
    n: gr.Slider
    temperature: gr.Slider
    seed: gr.Textbox
    only: gr.Dropdown
    copy_strength: gr.Slider
    controls: list[Any]

    def all(self) -> list[Any]:
        return [*(getattr(self, name) for name in self.__slots__[:-1]), *self.controls]


def fill_page(api: Api, blocks: gr.Blocks) -> None:
    """Lay out the page inside the current tab and connect its events."""
    notice = gr.HTML("", apply_default_css=False, elem_id="hx-notice")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            view = song_view(elem_id="hx-song")
            own = comparison(elem_id="hx-own")
        with gr.Column(scale=1, min_width=300):
            example = gr.Dropdown(
                [(examples.about(name).title, name) for name in examples.names()],
                value=_FIRST_EXAMPLE,
                label="Example (or open a file of your own)",
                elem_id="hx-example",
            )
            fields = _fields()
            fill = gr.Button("Fill the gap", variant="primary", elem_id="hx-fill")
            blind = gr.Button("Two blind fills", elem_id="hx-blind")
    _connect(api, blocks, _Page(example, notice, view, fields, fill, blind, own))


@dataclass(frozen=True, slots=True)
class _Page:
    example: gr.Dropdown
    notice: gr.HTML
    view: gr.HTML
    fields: _Fields
    fill: gr.Button
    blind: gr.Button
    own: gr.HTML


def _fields() -> _Fields:
    with gr.Group():
        with gr.Row():
            first = gr.Number(1, label="From bar", precision=0, elem_id="hx-first", min_width=90)
            last = gr.Number(1, label="To bar", precision=0, elem_id="hx-last", min_width=90)
        tracks = gr.CheckboxGroup([], label="Tracks to fill", elem_id="hx-tracks")
        only = gr.Dropdown(_CHANGES, value="", label="What may change", elem_id="hx-only")
    with gr.Group():
        n = gr.Slider(1, 8, value=3, step=1, label="Fills", buttons=[])
        temperature = gr.Slider(
            *(0.2, 1.6),
            value=DEFAULT_TEMPERATURE,
            step=0.05,
            label="Temperature",
            info=f"higher is more surprising; if you leave it: {temperature_text(None)}",
            buttons=[],
        )
        copy_strength = gr.Slider(
            *(0, 1),
            value=COPY_STRENGTH,
            step=0.1,
            label="Repeat the song",
            info="1: repeat what the song plays elsewhere, as songs do; 0: use the model alone",
            elem_id="hx-copy-strength",
            buttons=[],
        )
        seed = _optional("Seed", "new each time", elem_id="hx-seed")
    with gr.Accordion("Constraints that every fill keeps", open=False):
        controls = control_fields(PAGE_CONTROLS)
    return _Fields(first, last, tracks, n, temperature, seed, only, copy_strength, controls)


def control_fields(controls: Sequence[Control]) -> list[Any]:
    """Return a form field for each control; the least and the greatest of one quantity share a row."""
    made: list[Any] = []
    for _, row in groupby(controls, key=lambda control: re.sub("min_|max_|_min|_max", "", control.name)):
        with gr.Row():
            for control in row:
                if control.choices:
                    choices = [("any", ""), *((choice, choice) for choice in control.choices)]
                    made.append(gr.Dropdown(choices, value="", label=control.label))
                else:
                    made.append(_optional(control.label, control.example or "any"))
    return made


def _optional(label: str, placeholder: str, *, elem_id: str | None = None) -> gr.Textbox:
    # Gradio's Number shows and sends an empty field as 0.
    return gr.Textbox("", label=label, placeholder=placeholder, max_lines=1, min_width=90, elem_id=elem_id)


def _connect(api: Api, blocks: gr.Blocks, page: _Page) -> None:
    gap: list[Any] = [page.fields.first, page.fields.last, page.fields.tracks]
    shown = [page.view, *gap, page.own, page.notice]

    async def show(name: str, midi_base64: str) -> tuple[Any, ...]:
        try:
            song = await api.inspect(midi_base64)
        except ServiceError as error:
            return (*(gr.skip() for _ in range(5)), alert(sentence(error)))
        if not song.tracks:
            return (*(gr.skip() for _ in range(5)), alert(f"{name} holds no notes; choose another file."))
        first, last = default_gap(song)
        chosen = [song.tracks[0].number]
        return (
            gr.HTML(value=song_value(name, midi_base64, song), selection=_selection(first, last, chosen)),
            first,
            last,
            gr.CheckboxGroup(choices=[(track_label(t), t.number) for t in song.tracks], value=chosen),
            None,
            "",
        )

    async def show_example(name: str) -> tuple[Any, ...]:
        return await show(_full_title(name), base64.b64encode(examples.load(name)).decode())

    async def show_file(event: gr.EventData) -> tuple[Any, ...]:
        return await show(event.name, event.midi_base64)

    def pick(event: gr.EventData) -> tuple[int, int]:
        return int(event.first), int(event.last)

    async def fill(value: dict[str, Any] | None, *fields: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
        marked = _selection(*fields[:3])
        try:
            request = _request(value, fields)
            async for state in fill_states(request, api.infill_events(request)):
                if isinstance(state, InfillResponse):
                    shown = {**(value or {}), "result": result_value(request, state)}
                    yield gr.HTML(value=shown, selection=marked), None, ""
                else:
                    yield gr.HTML(value={**(value or {}), "partial": state}, selection=marked), gr.skip(), ""
        except FormError as error:
            yield gr.skip(), gr.skip(), alert(str(error))
        except ServiceError as error:
            # Remove the notes drawn so far.
            yield (gr.HTML(value=value, selection=marked) if value else gr.skip()), gr.skip(), alert(sentence(error))

    def compare(value: dict[str, Any] | None, *fields: Any) -> tuple[Any, Any]:
        try:
            request = _request(value, fields)
        except FormError as error:
            return gr.skip(), alert(str(error))
        # With a new serial, the same request twice gives two comparisons.
        source = {"infill": request.model_dump(mode="json"), "consent": wording(), "serial": secrets.token_hex(8)}
        return source, ""

    def refuse(event: gr.EventData) -> str:
        return alert(event.detail)

    # Gradio would serve one visitor at a time; the service has its own limits.
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
    gr.on([page.example.input, blocks.load], show_example, page.example, shown, **hidden)
    page.view.open(show_file, None, shown, **hidden)
    page.view.refuse(refuse, None, page.notice, **hidden)
    page.view.pick(pick, None, gap[:2], **hidden)
    changes: list[Any] = [control.change for control in gap]
    # While one change is being handled, keep the last of the changes that follow.
    latest = hidden | {"trigger_mode": "always_last"}
    gr.on(changes, lambda *g: gr.HTML(selection=_selection(*g)), gap, page.view, **latest)
    fields = [page.view, *page.fields.all()]
    page.fill.click(fill, fields, [page.view, page.own, page.notice], **(hidden | {"show_progress": "minimal"}))
    page.blind.click(compare, fields, [page.own, page.notice], **hidden)


def result_value(request: InfillRequest, response: InfillResponse) -> dict[str, Any]:
    """Return the `result` value of the song view."""
    return {
        "request_id": response.request_id,
        "seed": response.seed,
        "model_version": response.model_version,
        "bars": request.region.bars,
        "tracks": request.region.tracks,
        "fills": [
            {
                "midi_base64": candidate.midi_base64,
                "reward": candidate.reward,
                "notes": [roll_note(note) for note in candidate.notes],
            }
            for candidate in response.candidates
        ],
    }


def alert(sentence: str) -> str:
    """Return a sentence as an alert, which screen readers announce."""
    return f'<div class="hx-alert" role="alert">{html.escape(sentence)}</div>'


def _request(value: dict[str, Any] | None, fields: tuple[Any, ...]) -> InfillRequest:
    if not value:
        raise FormError("Choose a song first.")
    return infill_request(_form(fields), value["midi_base64"])


def _form(fields: Sequence[Any]) -> Form:
    others, controls = fields[: -len(PAGE_CONTROLS)], fields[-len(PAGE_CONTROLS) :]
    values: dict[str, Any] = dict(zip(Form.__slots__, others, strict=False))
    return Form(**values | {"controls": {c.name: text for c, text in zip(PAGE_CONTROLS, controls, strict=True)}})


def _selection(first: float | None, last: float | None, tracks: list[int]) -> dict[str, Any]:
    return {"first": first, "last": last, "tracks": tracks}


def _full_title(name: str) -> str:
    example = examples.about(name)
    return f"{example.title} · {example.composer}"
