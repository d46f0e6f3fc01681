"""The report as one self-contained HTML page, without scripts, external fonts or images.

Everything that is based on simulated raters is labelled in its own heading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from harmonixr_platform.feedback.reports import wording
from harmonixr_platform.feedback.reports.plot import heat_map, standings_plot

_STYLE = """
.hxr{font:15px/1.5 system-ui,sans-serif;color:#1e293b;background:#fff;max-width:880px;margin:0 auto;padding:16px 20px}
.hxr h1{font-size:24px;margin:0}.hxr h2{font-size:19px;margin:28px 0 4px}.hxr h3{font-size:15px;margin:18px 0 4px}
.hxr table{border-collapse:collapse;margin:6px 0;font-size:13px;font-variant-numeric:tabular-nums}
.hxr th,.hxr td{padding:3px 10px;border-bottom:1px solid #dfe4ec;text-align:right;color:#1e293b}
.hxr th:first-child,.hxr td:first-child,.hxr td.t{text-align:left}.hxr th{font-weight:600;color:#475569}
.hxr svg{max-width:100%;height:auto;display:block}.hxr p{margin:4px 0}.hxr .small{color:#64748b;font-size:13px}
.hxr .scroll{overflow-x:auto}
.hxr .simulated{display:inline-block;background:#fff4d6;border:1px solid #d99a1c;color:#7a4d00;border-radius:6px;
padding:1px 8px;font-size:13px;font-weight:600}
.hxr .refusal{background:#fef1ef;border:1px solid #b42318;color:#b42318;border-radius:6px;padding:8px 12px}
"""
_BADGE = '<span class="simulated">simulated: judged by programs, not people</span>'


def report_html(content: Mapping[str, Any]) -> str:
    """Return a whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Harmonixr: what listeners prefer</title></head><body>{_body(content)}</body></html>\n"
    )


def _body(content: Mapping[str, Any]) -> str:
    """Return the page's content with its style, for use inside another page."""
    of_study = f" in study {escape(content['study'])}" if content["study"] else ""
    parts = [
        f"<style>{_STYLE}</style>",
        f'<div class="hxr"><h1>What listeners prefer{of_study}</h1>',
        f"<p>{wording.summary(content)}.</p>",
        *_small([wording.left_out(content)]),
    ]
    if not content["panels"]:
        parts.append(f"<p>{wording.NO_RANKING}</p>")
    parts += [_panel(panel) for panel in content["panels"]]
    rules = ", ".join(f"{rule['rule']} v{rule['version']}" for rule in content["rules"])
    parts.append(f'<p class="small">Quality rules: {escape(rules)}.</p></div>')
    return "".join(parts)


def _panel(panel: Mapping[str, Any]) -> str:
    simulated = panel["origin"] == "simulated"
    parts = [
        f"<h2>{'Simulated raters' if simulated else 'People'} {_BADGE if simulated else ''}</h2>",
        f'<p class="small">{panel["judgments"]} judgments by {panel["raters"]} raters on {panel["pairs"]} pairs.</p>',
        _ranking(panel["all"], simulated=simulated, title="Standings"),
    ]
    if panel["unflagged"] is not None:
        title = f"Without flagged raters and judgments ({panel['left_out']} judgments left out)"
        parts.append(_ranking(panel["unflagged"], simulated=simulated, title=title))
    parts += [_wins(panel["all"], simulated=simulated), _agreement(panel), _raters(panel["quality"]), _stopping(panel)]
    return "".join(parts)


def _ranking(ranking: Mapping[str, Any], *, simulated: bool, title: str) -> str:
    head = f"<h3>{escape(title)}</h3>"
    if ranking["refusal"]:
        return f'{head}<p class="refusal">No ranking: {escape(ranking["refusal"])}.</p>'
    notes = [
        f"{ranking['votes']} votes. Strength in log odds, zero on average, for equal sides. Thick line: 95 % CI over "
        "raters; thin line: 95 % CI of a bootstrap over votes, which is usually too narrow.",
        *wording.ranking_notes(ranking),
    ]
    plot = standings_plot(ranking["models"], simulated=simulated)
    return f'{head}<div class="scroll">{plot}</div>{"".join(_small(notes))}'


def _wins(ranking: Mapping[str, Any], *, simulated: bool) -> str:
    if not ranking["wins"]:
        return ""
    rows = [
        [
            cell["first"],
            cell["second"],
            *(str(cell[name]) for name in ("first_won", "second_won", "tie", "both_bad")),
            wording.percent(cell["win_rate"]),
            wording.percent(cell["win_rate_weighted"]),
        ]
        for cell in ranking["outcomes"]
    ]
    head = ["first", "second", "won", "lost", "tie", "both bad", "win rate", "weighted by 1/propensity"]
    plot = heat_map(ranking["wins"], simulated=simulated)
    return f'<h3>Wins of row over column</h3><div class="scroll">{plot}</div>' + _table(head, rows)


def _agreement(panel: Mapping[str, Any]) -> str:
    notes = wording.agreement_notes(panel)
    return "<h3>Agreement</h3>" + "".join(f"<p>{escape(note)}</p>" for note in notes) if notes else ""


def _raters(quality: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            rater["rater"][:8],
            str(rater["answers"]),
            f"{rater['side_a']}/{rater['decided']}",
            f"{rater['gold_right']}/{rater['gold']}",
            f"{rater['repeats_same']}/{rater['repeats']}",
            str(rater["unheard"]),
            "; ".join(f"{flag['rule']} v{flag['version']}: {flag['reason']}" for flag in rater["flags"]) or "–",
        ]
        for rater in quality
    ]
    return "<h3>Raters</h3>" + _table(["rater", "judgments", "side a", "gold", "repeats", "unheard", "flags"], rows)


def _stopping(panel: Mapping[str, Any]) -> str:
    rows = [
        [
            row["first"],
            row["second"],
            f"{row['raters']} × {row['votes_each']}",
            f"{row['low']:.0%} … {row['high']:.0%}",
            wording.verdict_text(row),
        ]
        for row in panel["stopping"]
    ]
    if not rows:
        return ""
    head = ["first", "second", "raters × votes", "win rate, anytime-valid", "verdict"]
    return "<h3>Stopping rule</h3>" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{lines}</table></div>'


def _small(notes: Sequence[str]) -> list[str]:
    return [f'<p class="small">{escape(note)}</p>' for note in notes if note]
