"""A small SVG pen: shapes in order, axes with round numbers, colours by value. Knows nothing of what is drawn."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

INK, FAINT, RULE = "#1e293b", "#64748b", "#dfe4ec"
# Told apart in grey and by the colour-blind as well (Okabe and Ito 2008).
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#444444")


@dataclass(slots=True)
class Canvas:
    """What is drawn so far, in the order it was drawn."""

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, *, colour: str = RULE, width: float = 1) -> None:
        """Draw a straight line."""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def path(
        self, points: Iterable[tuple[float, float]], *, colour: str, width: float = 1.5, opacity: float = 1
    ) -> None:
        """Draw straight lines from point to point."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            f'stroke-opacity="{opacity:g}" stroke-linejoin="round"/>'
        )

    def dot(self, x: float, y: float, *, colour: str, radius: float = 3, says: str = "") -> None:
        """Draw a filled circle; `says` shows when it is pointed at."""
        tip = f"<title>{escape(says)}</title>" if says else ""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}">{tip}</circle>')

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        colour: str,
        outline: str = "none",
        says: str = "",
    ) -> None:
        """Draw a rectangle."""
        tip = f"<title>{escape(says)}</title>" if says else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}" '
            f'stroke="{outline}">{tip}</rect>'
        )

    def text(
        self, x: float, y: float, said: str, *, colour: str = INK, size: float = 12, anchor: str = "start"
    ) -> None:
        """Write a line of text; `anchor` is start, middle or end."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size:g}" text-anchor="{anchor}">'
            f"{escape(said)}</text>"
        )

    def to_svg(self) -> str:
        """Return the whole picture."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'font-family="system-ui,sans-serif"><title>{escape(self.title)}</title>'
            f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(self.parts)}</svg>\n'
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """Values onto the page: `low` stands at `start`, `high` at `stop`; on a log scale where `is_log`."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return where a value stands."""
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.stop - self.start)

    def ticks(self, count: int = 6) -> list[float]:
        """Return round values within the scale, about `count`."""
        if self.low == self.high:
            return [self.low]
        if self.is_log:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            tens = [m * 10.0**e for e in exponents for m in (1, 2, 5)]
            within = [tick for tick in tens if self.low <= tick <= self.high]
            return within[:: max(1, math.ceil(len(within) / count))]
        rough = (self.high - self.low) / count
        ten = 10.0 ** math.floor(math.log10(rough))
        step = next(m * ten for m in (1, 2, 5, 10) if m * ten >= rough)
        first = math.ceil(self.low / step)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step) + 1)]


def draw_axes(canvas: Canvas, x: Scale, y: Scale, *, x_name: str, y_name: str) -> None:
    """Draw a grid with numbers at the ticks of both scales, and their names."""
    for tick in x.ticks():
        canvas.line(x(tick), y.start, x(tick), y.stop)
        canvas.text(x(tick), y.start + 16, f"{tick:g}", colour=FAINT, size=11, anchor="middle")
    for tick in y.ticks():
        canvas.line(x.start, y(tick), x.stop, y(tick))
        canvas.text(x.start - 6, y(tick) + 4, f"{tick:g}", colour=FAINT, size=11, anchor="end")
    canvas.text((x.start + x.stop) / 2, y.start + 34, x_name, anchor="middle")
    canvas.text(x.start, y.stop - 8, y_name)


def around_the_circle(share: float) -> str:
    """Return a colour for a value that comes round again: 0 and 1 are the same."""
    return _hex(colorsys.hls_to_rgb(share % 1, 0.48, 0.7))


def from_low_to_high(share: float) -> str:
    """Return a colour from dark blue by green to yellow, ever lighter."""
    stops: Sequence[tuple[float, float, float]] = ((0.2, 0.13, 0.42), (0.13, 0.5, 0.55), (0.98, 0.82, 0.15))
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    at = min(int(place), len(stops) - 2)
    red, green, blue = (a + (b - a) * (place - at) for a, b in zip(stops[at], stops[at + 1], strict=True))
    return _hex((red, green, blue))


def from_pale_to_red(share: float) -> str:
    """Return a colour from pale grey to red: how much something matters."""
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (a + (b - a) * share for a, b in zip((0.87, 0.88, 0.91), (0.78, 0.05, 0.18), strict=True))
    return _hex((red, green, blue))


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)
