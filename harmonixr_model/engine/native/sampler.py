"""Grammar, pointers, random stream and draw of every row in the compiled library; see `Sampler` for the contract.

Says and draws what `TorchSampler` does. Knows nothing of models.
"""

# R rows, V vocabulary, N notes of P passages, C cells

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence

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


class _Rules(ctypes.Structure):
    _fields_ = (
        [
            (name, _POINTER)
            for name in ("vocabulary", "max_duration", "sounding", *_TABLES, "header_size", "pitch_allowed")
        ]
        + [("velocity_allowed", _POINTER)]
        + [
            (name, ctypes.c_int64)
            for name in (
                "groups",
                "tracks",
                "steps",
                "horizon",
                "cells",
                "max_polyphony",
                "max_tokens",
                "min_polyphony",
            )
        ]
    )


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
    """One row's grammar, past what is forced at its beginning. Freed with the object."""

    def __init__(self, library: ctypes.CDLL, rules: FillTables) -> None:
        self._library = library
        self._kept: list[npt.NDArray[np.generic]] = []
        self._rules = self._structure(rules)
        library.hx_grammar_open.restype = _POINTER
        self.handle: int = library.hx_grammar_open(ctypes.byref(self._rules))
        weakref.finalize(self, library.hx_grammar_close, _POINTER(self.handle))

    @property
    def finished(self) -> bool:
        """Whether EOS has been said."""
        return bool(self._library.hx_grammar_finished(_POINTER(self.handle)))

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return which tokens may come next, bool [V]."""
        mask = np.zeros(VOCAB.size, dtype=bool)
        self._library.hx_grammar_allow(_POINTER(self.handle), _POINTER(mask.ctypes.data))
        return mask

    def advance(self, token: int) -> None:
        """Take an allowed token and all that is forced after it."""
        self._library.hx_grammar_advance(_POINTER(self.handle), ctypes.c_int64(token))

    def _structure(self, rules: FillTables) -> _Rules:
        steps, horizon = rules.max_duration.shape[1], rules.sounding.shape[1]
        tables = {name: self._keep(getattr(rules, name), np.int64) for name in _TABLES}
        sizes = np.array([len(header) for header in rules.headers])
        return _Rules(
            vocabulary=ctypes.addressof(_VOCABULARY),
            max_duration=self._keep(rules.max_duration, np.int16),
            sounding=self._keep(rules.sounding, np.int16),
            header_size=self._keep(sizes, np.int64),
            pitch_allowed=self._keep(rules.pitch_allowed, np.uint8),
            velocity_allowed=self._keep(rules.velocity_allowed, np.uint8),
            groups=len(rules.max_duration),
            tracks=len(rules.sounding),
            steps=steps,
            horizon=horizon,
            cells=rules.cells,
            max_polyphony=rules.max_polyphony,
            max_tokens=rules.max_tokens,
            min_polyphony=rules.min_polyphony,
            **tables,
        )

    def _keep(self, table: npt.NDArray[np.generic], dtype: type[np.generic]) -> int:
        self._kept.append(np.ascontiguousarray(table, dtype=dtype))
        return self._kept[-1].ctypes.data


class _Passages(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("vocabulary", "notes", "first", "similarity")] + [
        (name, ctypes.c_int64) for name in ("passages", "cells")
    ]


class NativePointers:
    """One row's pointers, at its first cell. Freed with the object."""

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
        library.hx_pointers_open.restype = _POINTER
        self.handle: int = library.hx_pointers_open(ctypes.byref(self._passages))
        weakref.finalize(self, library.hx_pointers_close, _POINTER(self.handle))


class NativeSampler:
    """The compiled grammar and pointers of every row. `gate` says how far these are believed; without it none speak."""

    def __init__(self, library: ctypes.CDLL, *, gate: CopyGate | None = None) -> None:
        self._library = library
        self._gate = None if gate is None else np.ascontiguousarray(gate.weight_KF.numpy())
        self._grammars: list[NativeGrammar] = []
        self._pointers: list[NativePointers | None] = []
        self._uniforms: list[Iterator[float]] = []
        self._handles = np.zeros((2, 0), dtype=np.int64)  # of the grammars, and of the pointers: 0 where there are none
        self._settings = np.zeros(0, dtype=_SETTINGS)

    def join(self, place: int, row: Row) -> None:
        """Take a row at its first choice."""
        self._grammars[place:] = [NativeGrammar(self._library, row.prompt.tables)]
        self._uniforms[place:] = [iter(uniforms(row.seed, row.prompt.tables.max_tokens).tolist())]
        if place == len(self._settings):
            self._grow(max(8, 2 * place))
        points = self._gate is not None and row.prompt.copy_sources and row.sampling.copy_strength
        pointers = NativePointers(self._library, row.prompt.copy_sources) if points else None
        self._pointers[place:] = [pointers]
        self._handles[:, place] = self._grammars[place].handle, pointers.handle if pointers else 0
        sampling = row.sampling
        self._settings[place] = 0, row.temperature, sampling.top_p, sampling.copy_strength, sampling.top_k

    def leave(self, place: int, last: int) -> None:
        """Forget a row; the last one moves there."""
        self._grammars[place], self._uniforms[place] = self._grammars[last], self._uniforms[last]
        self._pointers[place] = self._pointers[last]
        del self._grammars[last:], self._uniforms[last:], self._pointers[last:]
        self._handles[:, place], self._settings[place] = self._handles[:, last], self._settings[last]

    def choose(self, logits_RV: Tensor, places: Sequence[int]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for the rows at `places`."""
        count = len(places)
        logits_RV = logits_RV.to("cpu", torch.float32)
        is_all = places[-1] == count - 1
        handles, settings = self._handles, self._settings
        if not is_all:
            handles, settings = np.ascontiguousarray(handles[:, places]), settings[places]
        settings["uniform"][:count] = [next(self._uniforms[place]) for place in places]
        tokens, log_probabilities = np.empty(count, dtype=np.int64), np.empty(count)
        self._library.hx_choose(
            _POINTER(handles[0].ctypes.data),
            _POINTER(handles[1].ctypes.data),
            _POINTER(0 if self._gate is None else self._gate.ctypes.data),
            ctypes.c_int64(count),
            _POINTER(logits_RV.data_ptr()),
            ctypes.c_int64(logits_RV.stride(0)),
            _POINTER(settings.ctypes.data),
            _POINTER(tokens.ctypes.data),
            _POINTER(log_probabilities.ctypes.data),
        )
        return list(zip(tokens.tolist(), log_probabilities.tolist(), strict=True))

    def _grow(self, rows: int) -> None:
        more = rows - len(self._settings)
        self._handles = np.concatenate([self._handles, np.zeros((2, more), dtype=np.int64)], axis=1)
        self._settings = np.concatenate([self._settings, np.zeros(more, dtype=_SETTINGS)])
