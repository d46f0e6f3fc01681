"""The sampler of the compiled library; see `Sampler` for the contract. It samples the same tokens as `TorchSampler`."""

# R rows, V vocabulary, N notes of P passages, C cells

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harmonixr_model.engine.row import Row
from harmonixr_model.grammar.fill_tables import FillTables
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.infill.sample import uniforms
from harmonixr_model.notes.vocabulary import DURATIONS, VELOCITY_BINS, VOCAB
from harmonixr_model.prompt.copy_pointer import CopySource

_POINTER = ctypes.c_void_p
_SETTINGS = np.dtype(
    [(name, np.float64) for name in ("uniform", "temperature", "top_p", "copy_strength")] + [("top_k", np.int64)]
)
_TABLES = (
    *("cell_group", "cell_row", "bar_start", "cell_start", "cell_end", "min_notes", "max_notes", "counts_on"),
    *("last_end", "close_tokens"),
)


class _Vocabulary(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("size", "position", "positions", "pitch", "pitches", "duration", "durations"),
            *("velocity", "velocities", "end"),
        )
    ] + [("duration_steps", _POINTER)]


class _FillTables(ctypes.Structure):
    _fields_ = [
        (name, _POINTER)
        for name in (
            *("vocabulary", "max_duration", "sounding", *_TABLES, "header_size", "pitch_allowed", "velocity_allowed"),
        )
    ] + [
        (name, ctypes.c_int64)
        for name in (
            *("groups", "tracks", "steps", "horizon", "cells", "max_polyphony", "max_tokens", "min_polyphony"),
        )
    ]


_DURATION_STEPS = np.array(DURATIONS, dtype=np.int64)
_VOCABULARY = _Vocabulary(
    size=VOCAB.size,
    position=VOCAB.position.start,
    positions=VOCAB.position.size,
    pitch=VOCAB.pitch.start,
    pitches=VOCAB.pitch.size,
    duration=VOCAB.duration.start,
    durations=len(DURATIONS),
    velocity=VOCAB.velocity.start,
    velocities=VELOCITY_BINS,
    end=VOCAB.id("END"),
    duration_steps=_DURATION_STEPS.ctypes.data,
)


class NativeGrammar:
    """One row's grammar, after its first forced tokens. The library frees it with this object."""

    def __init__(self, library: ctypes.CDLL, tables: FillTables) -> None:
        self._library = library
        self._arrays: list[npt.NDArray[np.generic]] = []
        self._tables = self._structure(tables)
        library.hx_grammar_open.restype = _POINTER
        self.handle: int = library.hx_grammar_open(ctypes.byref(self._tables))
        weakref.finalize(self, library.hx_grammar_close, _POINTER(self.handle))

    @property
    def finished(self) -> bool:
        """Whether EOS has been reached."""
        return bool(self._library.hx_grammar_finished(_POINTER(self.handle)))

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return which tokens may come next, bool [V]."""
        mask = np.zeros(VOCAB.size, dtype=bool)
        self._library.hx_grammar_allow(_POINTER(self.handle), _POINTER(mask.ctypes.data))
        return mask

    def advance(self, token: int) -> None:
        """Advance by an allowed token and the forced tokens after it."""
        self._library.hx_grammar_advance(_POINTER(self.handle), ctypes.c_int64(token))

    def _structure(self, tables: FillTables) -> _FillTables:
        return _FillTables(
            vocabulary=ctypes.addressof(_VOCABULARY),
            max_duration=self._address(tables.max_duration, np.int16),
            sounding=self._address(tables.sounding, np.int16),
            header_size=self._address(np.array([len(header) for header in tables.headers]), np.int64),
            pitch_allowed=self._address(tables.pitch_allowed, np.uint8),
            velocity_allowed=self._address(tables.velocity_allowed, np.uint8),
            groups=len(tables.max_duration),
            tracks=len(tables.sounding),
            steps=tables.max_duration.shape[1],
            horizon=tables.sounding.shape[1],
            cells=tables.cells,
            max_polyphony=tables.max_polyphony,
            max_tokens=tables.max_tokens,
            min_polyphony=tables.min_polyphony,
            **{name: self._address(getattr(tables, name), np.int64) for name in _TABLES},
        )

    def _address(self, table: npt.NDArray[np.generic], dtype: type[np.generic]) -> int:
        self._arrays.append(np.ascontiguousarray(table, dtype=dtype))
        return self._arrays[-1].ctypes.data


class _Passages(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("vocabulary", "notes", "first", "similarity")] + [
        (name, ctypes.c_int64) for name in ("passages", "cells")
    ]


class NativeCopyPointer:
    """One row's copy pointer, at its first cell. The library frees it with this object."""

    def __init__(self, library: ctypes.CDLL, passages: Sequence[CopySource]) -> None:
        cells = [cell for passage in passages for cell in passage.cells]
        notes_N4 = [(n.position, n.pitch, n.duration, n.velocity) for cell in cells for n in cell]
        self._notes = np.array(notes_N4, dtype=np.int64)
        self._first = np.cumsum([0, *map(len, cells)], dtype=np.int64)
        self._similarity = np.array([passage.similarity for passage in passages], dtype=np.float64)
        self._passages = _Passages(
            vocabulary=ctypes.addressof(_VOCABULARY),
            notes=self._notes.ctypes.data,
            first=self._first.ctypes.data,
            similarity=self._similarity.ctypes.data,
            passages=len(passages),
            cells=len(passages[0].cells),
        )
        library.hx_copy_pointer_open.restype = _POINTER
        self.handle: int = library.hx_copy_pointer_open(ctypes.byref(self._passages))
        weakref.finalize(self, library.hx_copy_pointer_close, _POINTER(self.handle))


class NativeSampler:
    """Sample in the compiled library. `gate` weighs the copy pointer; without it there is none."""

    def __init__(self, library: ctypes.CDLL, *, gate: CopyGate | None = None) -> None:
        self._library = library
        self._gate = None if gate is None else np.ascontiguousarray(gate.weight_KF.numpy())
        self._states: dict[Row, _SamplerState] = {}

    def join(self, row: Row) -> None:
        """Add a new row."""
        self._states[row] = _SamplerState(self._library, row, uses_copy_pointer=self._gate is not None)

    def leave(self, row: Row) -> None:
        """Remove a row."""
        del self._states[row]

    def sample(self, logits_RV: Tensor, rows: Sequence[Row]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for each row; may change the logits in place."""
        states = [self._states[row] for row in rows]
        logits_RV = logits_RV.to("cpu", torch.float32)
        grammars = np.array([state.grammar.handle for state in states], dtype=np.int64)
        pointers = np.array([state.pointers.handle if state.pointers else 0 for state in states], dtype=np.int64)
        settings = np.array([(next(state.uniforms), *state.settings) for state in states], dtype=_SETTINGS)
        tokens, log_probabilities = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
        self._library.hx_sample(
            _POINTER(grammars.ctypes.data),
            _POINTER(pointers.ctypes.data),
            _POINTER(0 if self._gate is None else self._gate.ctypes.data),
            ctypes.c_int64(len(rows)),
            _POINTER(logits_RV.data_ptr()),
            ctypes.c_int64(logits_RV.stride(0)),
            _POINTER(settings.ctypes.data),
            _POINTER(tokens.ctypes.data),
            _POINTER(log_probabilities.ctypes.data),
        )
        return list(zip(tokens.tolist(), log_probabilities.tolist(), strict=True))


class _SamplerState:
    """The grammar, the copy pointer, the random numbers and the sampling settings of one row."""

    def __init__(self, library: ctypes.CDLL, row: Row, *, uses_copy_pointer: bool) -> None:
        sampling = row.sampling
        self.uniforms = iter(uniforms(row.seed, row.prompt.tables.max_tokens).tolist())
        self.grammar = NativeGrammar(library, row.prompt.tables)
        self.pointers = open_copy_pointer(library, row) if uses_copy_pointer else None
        self.settings = row.temperature, sampling.top_p, sampling.copy_strength, sampling.top_k


def open_copy_pointer(library: ctypes.CDLL, row: Row) -> NativeCopyPointer | None:
    """Return a row's copy pointer; None where it has no similar passages or a copy strength of 0."""
    uses_copy_pointer = row.prompt.copy_sources and row.sampling.copy_strength
    return NativeCopyPointer(library, row.prompt.copy_sources) if uses_copy_pointer else None
