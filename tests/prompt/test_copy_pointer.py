"""The copy pointer: it guesses every token of a repeated passage, and finds its way back after any other token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import encode_notes
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.copy_pointer import EVIDENCE, KINDS, CopyPointer, CopySource, note_tokens

END = VOCAB.id("END")
BAR = (
    Note(0, 12, 60, 82),
    Note(0, 12, 64, 82),
    Note(24, 24, 62, 82),
    Note(48, 6, 65, 62),
    Note(54, 6, 67, 62),
    Note(72, 24, 60, 82),
)

notes = st.lists(
    st.builds(Note, st.integers(0, 95), st.integers(1, 48), st.integers(20, 100), st.integers(1, 127)),
    max_size=8,
)


def pointers(*passages, similarity=0.5):
    given = similarity if isinstance(similarity, tuple) else (similarity,) * len(passages)
    found = CopyPointer([CopySource(s, (note_tokens(p, 0),)) for p, s in zip(passages, given, strict=True)])
    found.open_cell(0)
    return found


def with_guesses(passages, emitted):
    """Return for each token of the emitted notes, END last, what was guessed in its place."""
    pairs = []
    for token in [*encode_notes(emitted, 0), END]:
        guess = passages.guess()
        pairs.append((token, None if guess is None else guess.token))
        passages.advance(token)
    return pairs


def test_a_repeated_passage_is_guessed_to_its_end():
    assert all(token == guess for token, guess in with_guesses(pointers(BAR), BAR))


@pytest.mark.parametrize(
    ("emitted", "wrong"),
    [
        # another pitch: that token alone
        ([*BAR[:2], BAR[2]._replace(pitch=63), *BAR[3:]], 1),
        # another length: that token alone
        ([*BAR[:2], BAR[2]._replace(duration=12), *BAR[3:]], 1),
        # a note left out, of a chord or alone: the token where it would have stood
        ([BAR[0], *BAR[2:]], 1),
        ([*BAR[:2], *BAR[3:]], 2),  # its softer neighbour is met earlier: the loudness is guessed a note late
        # a note more: where it begins, and its own tokens, of which nothing is known
        ([*BAR[:3], Note(36, 6, 70, 82), *BAR[3:]], 3),
    ],
)
def test_after_a_change_the_pointer_finds_its_way_back(emitted, wrong):
    assert sum(token != guess for token, guess in with_guesses(pointers(BAR), emitted)) <= wrong


def test_the_more_accurate_passage_is_followed_despite_its_surroundings():
    other = tuple(note._replace(pitch=note.pitch + 1) for note in BAR)
    pairs = with_guesses(pointers(other, BAR, similarity=(0.5, 0.45)), BAR)
    assert all(token == guess for token, guess in pairs[8:])


def test_a_guess_has_its_kind_and_evidence():
    found = pointers(BAR, BAR)
    kinds = []
    for token in [*encode_notes(BAR, 0), END]:
        guess = found.guess()
        kinds.append(KINDS[guess.kind])
        assert len(guess.evidence) == len(EVIDENCE)
        assert dict(zip(EVIDENCE, guess.evidence, strict=True))["disagreement"] == 0
        found.advance(token)
    assert kinds[:5] == ["position", "pitch", "duration", "velocity", "pitch"]
    assert kinds[-1] == "end"


@given(notes, notes)
@settings(max_examples=60, deadline=None)
def test_after_any_tokens_a_guess_is_a_possible_next_token(passage, emitted):
    def single(found):
        return sorted({(n.onset, n.pitch): n for n in found}.values())

    found = pointers(single(passage))
    state = "between"
    for token in [*encode_notes(single(emitted), 0), END]:
        guess = found.guess()
        if guess is not None:
            kind = KINDS[guess.kind]
            if state == "pitch":
                assert kind == "pitch"
            elif state == "duration":
                assert kind == "duration"
            else:
                assert kind in ("position", "pitch", "velocity", "end")
        found.advance(token)
        state = "pitch" if token in VOCAB.position else "duration" if token in VOCAB.pitch else "between"


def test_without_sources_there_is_no_guess():
    found = CopyPointer([])
    found.open_cell(0)
    assert found.guess() is None
