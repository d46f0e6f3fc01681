"""A report as one HTML page: its tables, and the best, median and worst fills with piano rolls (SVG) and sound."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence

from harmonixr_model.evaluation.markdown import to_markdown
from harmonixr_model.evaluation.report import Report, ReportedFill
from harmonixr_model.evaluation.validity import with_notes
from harmonixr_model.music.score import Bar, Note, Score
from harmonixr_model.music.synth import render, wav_bytes

KINDS = ("best", "median", "worst")
CONTEXT_BARS = 2
_WIDTH, _ROW, _MIN_PITCHES = 900, 5, 24
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { background: #f6f6f3; padding: 1rem; overflow-x: auto; font-size: .8rem }
figure { margin: 1.5rem 0 2.5rem } svg { width: 100%; background: #fbfbf9; border: 1px solid #ddd }
figcaption { margin: .3rem 0 } audio { vertical-align: middle; margin: .2rem 1rem .2rem .3rem; height: 2rem }
.gap { fill: #fff3cd } .bar { stroke: #ccc } .context { fill: #b8bcc4 }
.original { fill: none; stroke: #222; stroke-width: 1.2 } .fill { fill: #d1495b; fill-opacity: .8 }
"""


def to_html(report: Report, *, each: int = 2) -> str:
    """Return the page with the Markdown tables, then `each` best, median and worst fills by note F1."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Evaluation</title>",
        f"<style>{_STYLE}</style></head><body><h1>Evaluation</h1>",
        f"<pre>{html.escape(to_markdown(report))}</pre>",
    ]
    if report.shown:
        parts.append(
            "<h2>Fills</h2><p>Red: the fill; outlines: the human original; grey: the context; yellow: the gap.</p>"
        )
    parts += [_figure(kind, shown) for kind, shown in choose(report.shown, each=each)]
    return "\n".join([*parts, "</body></html>"])


def choose(shown: Sequence[ReportedFill], *, each: int) -> list[tuple[str, ReportedFill]]:
    """Return the fills with the highest, median and lowest note F1, each fill once."""
    ordered = sorted(
        (fill for fill in shown if not math.isnan(fill.note_f1)), key=lambda fill: (-fill.note_f1, fill.item.number)
    )
    middle = max(0, (len(ordered) - each) // 2)
    places = [*range(each), *range(middle, middle + each), *range(len(ordered) - each, len(ordered))]
    chosen: dict[int, str] = {}
    for place, kind in zip(places, (kind for kind in KINDS for _ in range(each)), strict=True):
        if 0 <= place < len(ordered):
            chosen.setdefault(place, kind)
    return [(kind, ordered[place]) for place, kind in chosen.items()]


def _figure(kind: str, shown: ReportedFill) -> str:
    item = shown.item
    bars = _bars_around(item.bars, [cell.start for cell in item.prompt.cells])
    songs = {name: with_notes(item, notes) for name, notes in (("fill", shown.fill), ("original", item.original))}
    players = "".join(
        f"{name} <audio controls preload='none' src='{_sound(score, bars)}'></audio>" for name, score in songs.items()
    )
    caption = f"{kind}: {item.shape}, piece {item.piece_id}, note F1 {shown.note_f1:.2f}"
    return f"<figure>{_roll(shown, bars)}<figcaption>{html.escape(caption)}</figcaption>{players}</figure>"


def _bars_around(bars: Sequence[Bar], starts: Sequence[int]) -> Sequence[Bar]:
    inside = [bar.index for bar in bars if any(bar.start <= start < bar.end for start in starts)]
    return bars[max(0, inside[0] - CONTEXT_BARS) : inside[-1] + 1 + CONTEXT_BARS]


def _sound(score: Score, bars: Sequence[Bar]) -> str:
    audio_CN = render(score, start_s=score.seconds(bars[0].start), end_s=score.seconds(bars[-1].end))
    # Mono, because the page contains the sound of every fill.
    data = base64.b64encode(wav_bytes(audio_CN.mean(axis=0, keepdims=True))).decode()
    return f"data:audio/wav;base64,{data}"


def _roll(shown: ReportedFill, bars: Sequence[Bar]) -> str:
    """Draw the bars as SVG: gap, barlines, context, fill, original."""
    item, start, end = shown.item, bars[0].start, bars[-1].end
    context = [note for track in range(len(item.context.tracks)) for note in item.context.notes(track, start, end)]
    original = [note for notes in item.original for note in notes]
    fill = [note for notes in shown.fill for note in notes]
    pitches = [note.pitch for note in (*context, *original, *fill)]
    low = min(pitches) - 1
    high = max(max(pitches) + 1, low + _MIN_PITCHES)
    scale, height = _WIDTH / (end - start), (high - low + 1) * _ROW

    def box(kind: str, from_step: int, steps: int, top: int, rows: int) -> str:
        x, width = (from_step - start) * scale, steps * scale
        return f"<rect class='{kind}' x='{x:.1f}' y='{top * _ROW}' width='{width:.1f}' height='{rows * _ROW}'/>"

    def notes_as(kind: str, notes: Sequence[Note]) -> list[str]:
        return [box(kind, n.onset, min(n.duration, end - n.onset), high - n.pitch, 1) for n in notes]

    shapes = [box("gap", cell.start, cell.end - cell.start, 0, high - low + 1) for cell in item.prompt.cells]
    for bar in bars:
        x = (bar.start - start) * scale
        shapes.append(f"<line class='bar' x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{height}'/>")
    shapes += notes_as("context", context) + notes_as("fill", fill) + notes_as("original", original)
    title = f"<title>{len(original)} notes hidden, {len(fill)} filled</title>"
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img'>{title}{''.join(shapes)}</svg>"
