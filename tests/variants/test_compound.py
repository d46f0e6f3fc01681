"""Compound steps: they hold the same tokens, do not depend on later steps, and the model learns."""

import numpy as np
import pytest
import torch

from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.tokenizer import encode
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.variants.compound import EMPTY, CompoundTransformer, compound_steps

torch.set_num_threads(1)
TINY = InfillConfig(width=32, layers=2, heads=2, dropout=0.0)


def ids(*names):
    return np.array([VOCAB.id(name) for name in names], dtype=np.int32)


def test_a_step_holds_the_fields_of_a_note_and_no_token_is_lost():
    tokens = ids("BAR", "TS_4/4", "TRACK_0", "POS_0", "PITCH_60", "DUR_24", "VEL_82", "PITCH_64", "DUR_24", "POS_24")
    steps, starts = compound_steps(tokens, np.zeros(len(tokens), dtype=bool))
    assert starts.tolist() == [0, 1, 2, 3, 7, 9]
    assert steps[3].tolist() == tokens[3:7].tolist()
    assert steps[4].tolist() == [EMPTY, *tokens[7:9].tolist(), EMPTY]
    np.testing.assert_array_equal(steps[steps != EMPTY], tokens)


@pytest.mark.parametrize("seed", range(3))
def test_a_whole_song_takes_about_a_third_of_the_steps(seed):
    tokens = np.array(encode(compose(seed, bars=16)), dtype=np.int32)
    steps, _ = compound_steps(tokens, np.zeros(len(tokens), dtype=bool))
    np.testing.assert_array_equal(steps[steps != EMPTY], tokens)
    assert len(steps) < 0.5 * len(tokens)


def test_a_step_never_mixes_target_and_context_tokens():
    tokens = ids("HOLD", "PITCH_60", "DUR_24", "VEL_82")
    steps, starts = compound_steps(tokens, np.array([False, False, False, True]))
    assert starts.tolist() == [0, 1, 3]
    assert steps[2].tolist() == [EMPTY, EMPTY, EMPTY, tokens[3]]


def batch(rows=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    starts = torch.tensor([block.start for block in (VOCAB.position, VOCAB.pitch, VOCAB.duration, VOCAB.velocity)])
    tokens = starts + torch.randint(0, 12, (rows, 9, 4), generator=generator)
    tokens[:, ::3, 3] = EMPTY
    mask = torch.zeros(rows, 9, dtype=torch.bool)
    mask[:, 4:] = True
    coordinates = torch.randint(0, 4, (rows, 9, 4), generator=generator)
    return [tokens, coordinates, torch.full((rows,), 4), torch.full((rows,), 9), mask]


def test_a_field_depends_on_earlier_fields_and_on_no_later_step():
    torch.manual_seed(0)
    model, given = CompoundTransformer(TINY).eval(), batch(rows=1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    with torch.no_grad():
        before, _ = model.losses(*given)
        given[0][0, 6, 3] += 1  # a velocity: the step's own cost and later ones change, earlier ones do not
        after, _ = model.losses(*given)
    assert torch.equal(before[:2], after[:2])
    assert not torch.isclose(before[2:], after[2:]).any()


def test_it_overfits_one_batch():
    torch.manual_seed(0)
    model, given = CompoundTransformer(TINY), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.losses(*given)[0].mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
