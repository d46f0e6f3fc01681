"""A key is read as musicians write it."""

import pytest

from harmonixr_model.errors import ControlError
from harmonixr_model.music.harmony import Key, read_key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("C major", Key(0, "major")),
        ("bb minor", Key(10, "minor")),
        ("B", Key(11, "major")),
        ("F#m", Key(6, "minor")),
        (" E♭ Major ", Key(3, "major")),
        ("Cb major", Key(11, "major")),
    ],
)
def test_a_key_is_read_as_it_is_written(text, key):
    assert read_key(text) == key


@pytest.mark.parametrize("text", ["", "H major", "C lydian", "major", "C major major"])
def test_what_names_no_key_is_refused_with_an_example(text):
    with pytest.raises(ControlError, match="G major"):
        read_key(text)
