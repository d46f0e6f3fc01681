"""Decode rows without attribute controls in the compiled library, several tokens a call; see `PythonBatch`.

The library holds a row's tokens until it has finished a cell. With a call for each token, sixteen rows spent a fifth of
their time in Python between two steps.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from harmonixr_model.engine.native.runner import NativeRunner, Segment
from harmonixr_model.engine.native.sampler import NativeGrammar, NativePointers
from harmonixr_model.engine.row import END, EOS, Row
from harmonixr_model.engine.runner import MAX_CHUNK
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.infill.sample import uniforms
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import place_updates
from harmonixr_model.prompt.layout import InfillPrompt

_POINTER = ctypes.c_void_p


class _Saying(ctypes.Structure):
    _fields_ = [("places", _POINTER)] + [(name, ctypes.c_int64) for name in ("sep", "end", "eos", "chunk")]


class _Settings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("uniform", "temperature", "top_p", "copy_strength")] + [
        ("top_k", ctypes.c_int64)
    ]


class _Start(ctypes.Structure):
    _fields_ = (
        [(name, _POINTER) for name in ("grammar", "pointers", "prefix", "own")]
        + [(name, ctypes.c_int64) for name in ("prefix_span", "own_span", "prefix_length")]
        + [("headers", _POINTER), ("header_first", _POINTER), ("cells", ctypes.c_int64), ("uniforms", _POINTER)]
        + [("settings", _Settings), ("said", _POINTER)]
    )


class NativeBatch:
    """The rows being decoded together, in places without holes. One thread at a time."""

    def __init__(self, runner: NativeRunner, library: ctypes.CDLL, *, gate: CopyGate | None = None) -> None:
        self.rows: list[Row] = []
        self._runner = runner
        self._library = library
        self._gate = None if gate is None else np.ascontiguousarray(gate.weight_KF.numpy())
        self._places = place_updates()
        self._saying = _Saying(self._places.ctypes.data, VOCAB.id("SEP"), END, EOS, MAX_CHUNK)
        self._lines: list[_Line] = []

    @property
    def precision(self) -> str:
        """The number format in which rows are decoded."""
        return self._runner.precision

    def read(self, prompt: InfillPrompt) -> Generator[None, None, Segment]:
        """Read a prompt's prefix, giving way after each layer; returns what `join` wants."""
        return self._runner.read(prompt)

    def join(self, row: Row, prefix: Segment) -> None:
        """Let a fresh row take part from the next step on."""
        own = Segment.empty(self._runner.config, row.prompt.tables.max_tokens)
        points = self._gate is not None and row.prompt.copy_sources and row.sampling.copy_strength
        pointers = NativePointers(self._library, row.prompt.copy_sources) if points else None
        self._lines.append(_Line(self._library, self._saying, row, prefix, own, pointers))
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Take a row out; its place is free at once."""
        place = self.rows.index(row)
        self.rows[place], self._lines[place] = self.rows[-1], self._lines[-1]
        del self.rows[-1], self._lines[-1]

    def step(self, *, most: int = 1) -> list[Row]:
        """Draw a token of every row `most` times, or until a row is whole; return the rows that closed cells.

        Finished rows have left when this returns. A row with many forced tokens draws nothing until all are fed.
        """
        count = len(self.rows)
        if not count:
            return []
        handles = np.array([line.handle for line in self._lines], dtype=np.int64)
        said, cells = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        log_probabilities = np.empty(count)
        self._library.hx_rows_step(
            self._runner.address,
            _pointer(handles),
            ctypes.c_int64(count),
            _POINTER(None) if self._gate is None else _pointer(self._gate),
            ctypes.c_int64(self._runner.stride),
            ctypes.c_int64(most),
            _pointer(said),
            _pointer(cells),
            _pointer(log_probabilities),
        )
        closed = []
        for place, cell in enumerate(cells.tolist()):
            row, line = self.rows[place], self._lines[place]
            if cell > row.cell:
                row.catch_up(line.said[len(row.tokens) : said[place]].tolist(), float(log_probabilities[place]))
                closed.append(row)
        for row in closed:
            if row.is_finished:
                self.leave(row)
        return closed


class _Line:
    """What the library keeps of a row, and all that it points at. Freed with the object."""

    def __init__(
        self,
        library: ctypes.CDLL,
        saying: _Saying,
        row: Row,
        prefix: Segment,
        own: Segment,
        pointers: NativePointers | None,
    ) -> None:
        headers, sampling, rules = row.prompt.headers, row.sampling, row.prompt.tables
        grammar = NativeGrammar(library, rules)
        self.said = np.zeros(rules.max_tokens + 1, dtype=np.int64)
        forced = np.array([token for header in headers for token in header], dtype=np.int64)
        first = np.cumsum([0, *map(len, headers)], dtype=np.int64)
        drawn = uniforms(row.seed, rules.max_tokens).numpy()
        self._kept = grammar, pointers, prefix, own, forced, first, drawn
        start = _Start(
            grammar=grammar.handle,
            pointers=pointers.handle if pointers else 0,
            prefix=prefix.address,
            own=own.address,
            prefix_span=prefix.span,
            own_span=own.span,
            prefix_length=prefix.length,
            headers=forced.ctypes.data,
            header_first=first.ctypes.data,
            cells=len(headers),
            uniforms=drawn.ctypes.data,
            settings=_Settings(0, row.temperature, sampling.top_p, sampling.copy_strength, sampling.top_k),
            said=self.said.ctypes.data,
        )
        library.hx_row_open.restype = _POINTER
        self.handle: int = library.hx_row_open(ctypes.byref(start), ctypes.byref(saying))
        weakref.finalize(self, library.hx_row_close, _POINTER(self.handle))


def _pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    return _POINTER(array.ctypes.data)
