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
from harmonixr_model.engine.native.sampler import NativeCopyPointer, NativeGrammar, open_copy_pointer
from harmonixr_model.engine.row import END, EOS, Row
from harmonixr_model.engine.runner import MAX_CHUNK
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.infill.sample import uniforms
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import place_updates
from harmonixr_model.prompt.layout import InfillPrompt

_POINTER = ctypes.c_void_p


class _RowLayout(ctypes.Structure):
    _fields_ = [("places", _POINTER)] + [(name, ctypes.c_int64) for name in ("sep", "end", "eos", "chunk")]


class _SamplingSettings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("uniform", "temperature", "top_p", "copy_strength")] + [
        ("top_k", ctypes.c_int64)
    ]


class _RowStart(ctypes.Structure):
    _fields_ = (
        [(name, _POINTER) for name in ("grammar", "pointers", "prefix", "own")]
        + [(name, ctypes.c_int64) for name in ("prefix_span", "own_span", "prefix_length")]
        + [("headers", _POINTER), ("header_first", _POINTER), ("cells", ctypes.c_int64), ("uniforms", _POINTER)]
        + [("settings", _SamplingSettings), ("tokens", _POINTER)]
    )


class NativeBatch:
    """Decode rows without attribute controls, several tokens a call. See `DecodeBatch` for the contract."""

    def __init__(self, runner: NativeRunner, library: ctypes.CDLL, *, gate: CopyGate | None = None) -> None:
        self.rows: list[Row] = []
        self._runner = runner
        self._library = library
        self._gate = None if gate is None else np.ascontiguousarray(gate.weight_KF.numpy())
        self._places = place_updates()
        self._layout = _RowLayout(self._places.ctypes.data, VOCAB.id("SEP"), END, EOS, MAX_CHUNK)
        self._native_rows: list[_NativeRow] = []  # of `rows`, in the same order

    @staticmethod
    def supports(prompt: InfillPrompt) -> bool:
        """Whether a prompt requests whole notes, without attribute controls."""
        return not prompt.is_conditional

    @property
    def precision(self) -> str:
        """The number format of weights and products."""
        return self._runner.precision

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Segment]:
        """Read a prompt's prefix; see `DecodeBatch`."""
        return self._runner.prefill(prompt)

    def join(self, row: Row, prefix: Segment) -> None:
        """Add a new row from the next step on."""
        own = Segment.empty(self._runner.config, row.prompt.tables.max_tokens)
        pointers = None if self._gate is None else open_copy_pointer(self._library, row)
        self._native_rows.append(_NativeRow(self._library, self._layout, row, prefix, own, pointers))
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Remove a row."""
        index = self.rows.index(row)
        del self.rows[index], self._native_rows[index]

    def step(self, *, max_tokens: int = 1) -> list[Row]:
        """Sample up to `max_tokens` tokens of every row, fewer where a row finishes; see `DecodeBatch`."""
        count = len(self.rows)
        if not count:
            return []
        handles = np.array([native.handle for native in self._native_rows], dtype=np.int64)
        lengths, cells = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        log_probabilities = np.empty(count)
        self._library.hx_batch_step(
            self._runner.address,
            _pointer(handles),
            ctypes.c_int64(count),
            _POINTER(None) if self._gate is None else _pointer(self._gate),
            ctypes.c_int64(self._runner.stride),
            ctypes.c_int64(max_tokens),
            _pointer(lengths),
            _pointer(cells),
            _pointer(log_probabilities),
        )
        changed = []
        for index, cell in enumerate(cells.tolist()):
            row, native = self.rows[index], self._native_rows[index]
            if cell > row.cell:
                row.extend(native.tokens[len(row.tokens) : lengths[index]].tolist(), float(log_probabilities[index]))
                changed.append(row)
        for row in changed:
            if row.is_finished:
                self.leave(row)
        return changed


class _NativeRow:
    """A row of the library, and the memory it points at. The library frees it with this object."""

    def __init__(
        self,
        library: ctypes.CDLL,
        layout: _RowLayout,
        row: Row,
        prefix: Segment,
        own: Segment,
        pointers: NativeCopyPointer | None,
    ) -> None:
        headers, sampling, tables = row.prompt.headers, row.sampling, row.prompt.tables
        grammar = NativeGrammar(library, tables)
        self.tokens = np.zeros(tables.max_tokens + 1, dtype=np.int64)
        forced = np.array([token for header in headers for token in header], dtype=np.int64)
        first = np.cumsum([0, *map(len, headers)], dtype=np.int64)
        random_numbers = uniforms(row.seed, tables.max_tokens).numpy()
        self._memory = grammar, pointers, prefix, own, forced, first, random_numbers
        start = _RowStart(
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
            uniforms=random_numbers.ctypes.data,
            settings=_SamplingSettings(0, row.temperature, sampling.top_p, sampling.copy_strength, sampling.top_k),
            tokens=self.tokens.ctypes.data,
        )
        library.hx_row_open.restype = _POINTER
        self.handle: int = library.hx_row_open(ctypes.byref(start), ctypes.byref(layout))
        weakref.finalize(self, library.hx_row_close, _POINTER(self.handle))


def _pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    return _POINTER(array.ctypes.data)
