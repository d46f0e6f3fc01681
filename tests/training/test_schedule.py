"""The schedule's promises: it rises, falls, ends on its floor; contexts grow in equal parts."""

import pytest

from harmonixr_model.training.schedule import context_length, learning_rate


def test_the_rate_rises_to_its_peak_and_falls_to_its_floor():
    rates = [learning_rate(step, steps=100, peak=1e-3, warmup=10, floor=0.1) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[10] == max(rates) == pytest.approx(1e-3)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4)


def test_a_run_of_one_step_has_a_rate():
    assert learning_rate(0, steps=1, peak=1e-3, warmup=0, floor=0.1) == pytest.approx(1e-3)


def test_the_context_grows_in_equal_parts():
    lengths = [context_length(step, steps=9, stages=(512, 1024, 2048)) for step in range(9)]
    assert lengths == [512] * 3 + [1024] * 3 + [2048] * 3
