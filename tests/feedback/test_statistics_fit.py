"""The fits find what an independent optimiser finds, and what can be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_platform.feedback.statistics.comparison_graph import Disconnected, separate_groups, undefeated
from harmonixr_platform.feedback.statistics.fit import fit
from harmonixr_platform.feedback.statistics.panel import Panel, sample_votes
from harmonixr_platform.feedback.statistics.ranking import rank
from harmonixr_platform.feedback.statistics.ties import Davidson, RaoKupper, TieModel
from harmonixr_platform.feedback.statistics.votes import Vote, design, win_matrix

PANEL = Panel({"a": 0.7, "b": 0.1, "c": -0.2, "d": -0.6}, taste=0.4, side=0.3, side_spread=0.2, notes=0.4)
COVARIATES = ("side", "notes")


def _two(wins: int, losses: int, ties: int) -> list[Vote]:
    """Votes of two models, half of each kind on either side, so that the side has no effect."""
    kinds = [(0, wins), (1, losses), (2, ties)]
    return [Vote("x", "y", outcome, "r", side=s) for outcome, n in kinds for _ in range(n) for s in (-1, 1)]


def _torch_fit(votes: list[Vote], *, is_davidson: bool) -> tuple[dict[str, float], float, float, float, float]:
    """The same likelihoods written from the papers, climbed by L-BFGS on automatic derivatives.

    Returns strengths, side effect, note effect, tie parameter and log-likelihood.
    """
    names = sorted({v.first for v in votes} | {v.second for v in votes})
    first = torch.tensor([names.index(v.first) for v in votes])
    second = torch.tensor([names.index(v.second) for v in votes])
    side = torch.tensor([float(v.side) for v in votes], dtype=torch.float64)
    notes = torch.tensor([v.notes for v in votes], dtype=torch.float64)
    won, lost, tied = (torch.tensor([v.outcome == k for v in votes]) for k in range(3))
    x = torch.zeros(len(names) + 3, dtype=torch.float64, requires_grad=True)

    def log_likelihood() -> torch.Tensor:
        theta, beta, gamma, tie = x[: len(names)], x[-3], x[-2], x[-1]
        shift = beta * side + gamma * notes
        # Worth (π) of either; the covariates are shared out between the two.
        pi = torch.exp(theta[first] + shift / 2)
        rho = torch.exp(theta[second] - shift / 2)
        if is_davidson:
            middle = torch.exp(tie) * torch.sqrt(pi * rho)
            p = torch.stack([pi, rho, middle]) / (pi + rho + middle)
        else:
            kappa = torch.exp(torch.exp(tie))
            equal = (kappa**2 - 1) * pi * rho / ((pi + kappa * rho) * (kappa * pi + rho))
            p = torch.stack([pi / (pi + kappa * rho), rho / (kappa * pi + rho), equal])
        return torch.log(p[0][won]).sum() + torch.log(p[1][lost]).sum() + torch.log(p[2][tied]).sum()

    climber = torch.optim.LBFGS(
        [x], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        climber.zero_grad()
        # The sum of strengths is free: holding it at zero changes no chance.
        loss = -log_likelihood() + x[: len(names)].sum() ** 2
        loss.backward()
        return loss

    climber.step(closure)
    value = x.detach().numpy()
    tie = float(value[-1]) if is_davidson else math.exp(value[-1])
    theta = value[: len(names)] - value[: len(names)].mean()
    strengths = dict(zip(names, theta.tolist(), strict=True))
    return strengths, float(value[-3]), float(value[-2]), tie, float(log_likelihood().detach())


@pytest.mark.parametrize("model", [Davidson(), RaoKupper()], ids=lambda model: model.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_agrees_with_an_independent_optimiser(model: TieModel, seed: int) -> None:
    votes = sample_votes(PANEL, raters=6, each=60, rng=np.random.default_rng(seed))
    table = design(votes, covariates=COVARIATES)
    found = fit(table, model=model, ridge=0.0)
    strengths, side, notes, tie, log_likelihood = _torch_fit(votes, is_davidson=model.name == "davidson")
    assert found.converged
    ours = dict(zip(table.models, table.strengths_MP @ found.value_DP[0], strict=True))
    assert ours == pytest.approx(strengths, abs=1e-4)
    assert table.effects_CP @ found.value_DP[0] == pytest.approx([side, notes], abs=1e-4)
    assert found.tie_D[0] == pytest.approx(tie, abs=1e-4)
    assert found.log_likelihood_D[0] == pytest.approx(log_likelihood, abs=1e-6)


def test_two_models_give_davidsons_closed_form() -> None:
    """With two models the fitted chances are the observed shares: θ = log(w / l), ν = t / sqrt(w l)."""
    votes = _two(30, 12, 18)
    table = design(votes)
    found = fit(table, ridge=0.0)
    assert table.difference("x", "y") @ found.value_DP[0] == pytest.approx([math.log(30 / 12)], abs=1e-7)
    assert math.exp(found.tie_D[0]) == pytest.approx(18 / math.sqrt(30 * 12), abs=1e-7)


def test_two_models_give_rao_and_kuppers_closed_form() -> None:
    """P(win) = σ(η − t) and P(loss) = σ(−η − t) are the shares, so η and t follow from their logits."""
    votes = _two(30, 12, 18)
    table = design(votes)
    found = fit(table, model=RaoKupper(), ridge=0.0)
    won, lost = math.log(30 / 30), math.log(12 / 48)
    assert table.difference("x", "y") @ found.value_DP[0] == pytest.approx([(won - lost) / 2], abs=1e-6)
    assert found.tie_D[0] == pytest.approx(-(won + lost) / 2, abs=1e-6)


def test_without_ties_both_models_are_bradley_and_terrys() -> None:
    votes = _two(30, 10, 0)
    table = design(votes)
    for model in (Davidson(), RaoKupper()):
        found = fit(table, model=model, ridge=0.0)
        assert found.converged
        assert table.difference("x", "y") @ found.value_DP[0] == pytest.approx([math.log(3)], abs=1e-6)


def test_the_side_effect_is_the_log_odds_of_side_a_between_equals() -> None:
    """Of 40 answers on equal models 30 prefer side a, whichever model lies there: the effect is log 3."""
    votes = [Vote("x", "y", 0, "r", side=1)] * 15 + [Vote("x", "y", 1, "r", side=1)] * 5
    votes += [Vote("x", "y", 1, "r", side=-1)] * 15 + [Vote("x", "y", 0, "r", side=-1)] * 5
    table = design(votes)
    found = fit(table, ridge=0.0)
    assert table.effects_CP @ found.value_DP[0] == pytest.approx([math.log(3)], abs=1e-7)
    assert table.difference("x", "y") @ found.value_DP[0] == pytest.approx([0.0], abs=1e-7)


def test_an_uneven_share_of_sides_does_not_move_the_strengths() -> None:
    """Model x stood on the preferred side a nine times in ten: the raw share favours it, the fit does not."""
    shown_a = [Vote("x", "y", 0, "r", side=1)] * 135 + [Vote("x", "y", 1, "r", side=1)] * 45
    shown_b = [Vote("x", "y", 1, "r", side=-1)] * 15 + [Vote("x", "y", 0, "r", side=-1)] * 5
    without = design(shown_a + shown_b, covariates=())
    assert (without.difference("x", "y") @ fit(without).value_DP[0])[0] > 0.6
    table = design(shown_a + shown_b)
    assert table.difference("x", "y") @ fit(table, ridge=0.0).value_DP[0] == pytest.approx([0.0], abs=1e-6)


def test_an_unidentified_side_effect_is_left_out_and_named() -> None:
    votes = [Vote("x", "y", i % 2, "r", side=1) for i in range(10)]
    assert design(votes).unidentified == ("side",)
    assert design([Vote("x", "y", 0, "r")], covariates=("notes",)).unidentified == ("notes",)


def test_a_model_that_always_wins_converges_to_a_finite_strength() -> None:
    table = design([Vote("a", "b", 0, "r", side=(-1) ** i) for i in range(50)])
    found = fit(table)
    assert found.converged
    assert 1 < (table.difference("a", "b") @ found.value_DP[0])[0] < 20


def test_refits_under_weights_equal_fits_to_the_repeated_votes() -> None:
    votes = sample_votes(PANEL, raters=3, each=30, rng=np.random.default_rng(5))
    table = design(votes)
    doubled = fit(table, weight_DN=np.stack([table.count_N, table.count_N * (1 + (table.rater_N == 0))]))
    again = fit(design(votes + [vote for vote in votes if vote.rater == "rater-0"]))
    assert doubled.value_DP[0] == pytest.approx(fit(table).value_DP[0], abs=1e-6)
    assert doubled.value_DP[1] == pytest.approx(again.value_DP[0], abs=1e-6)


def test_the_first_and_second_of_a_pair_are_only_names() -> None:
    votes = sample_votes(PANEL, raters=3, each=40, rng=np.random.default_rng(6))
    turned = [Vote(v.second, v.first, (1, 0, 2)[v.outcome], v.rater, side=-v.side, notes=-v.notes) for v in votes]
    one, other = design(votes, covariates=COVARIATES), design(turned, covariates=COVARIATES)
    assert fit(one).value_DP == pytest.approx(fit(other).value_DP, abs=1e-6)


def test_unconnected_groups_are_found() -> None:
    votes = [Vote("a", "b", 0, "r"), Vote("b", "c", 2, "r"), Vote("x", "y", 1, "r")]
    assert separate_groups(votes) == [("a", "b", "c"), ("x", "y")]
    assert separate_groups([*votes, Vote("c", "x", 0, "r")]) == [("a", "b", "c", "x", "y")]


def test_models_that_never_lost_are_named() -> None:
    assert undefeated([Vote("a", "b", 0, "r"), Vote("b", "c", 0, "r"), Vote("c", "b", 0, "r")]) == ("a",)
    assert undefeated([Vote("a", "b", 0, "r"), Vote("a", "b", 1, "r")]) == ()
    assert undefeated([Vote("a", "b", 2, "r")]) == ()


def test_ties_are_half_a_win_each_in_the_matrix() -> None:
    wins = win_matrix([Vote("a", "b", 2, "r"), Vote("b", "a", 0, "r")])
    assert wins == {"a": {"a": 0.0, "b": 0.5}, "b": {"a": 1.5, "b": 0.0}}


@st.composite
def _any_votes(draw: st.DrawFn) -> list[Vote]:
    models = draw(st.integers(2, 4))
    outcomes = draw(st.sampled_from([(0, 1, 2), (2,), (0,), (0, 1)]))
    vote = st.builds(
        lambda pair, outcome, rater, side, notes: Vote(f"m{pair[0]}", f"m{pair[1]}", outcome, f"r{rater}", side, notes),
        st.permutations(range(models)),
        st.sampled_from(outcomes),
        st.integers(0, 3),
        st.sampled_from((-1, 0, 1)),
        st.floats(-6, 6),
    )
    return draw(st.lists(vote, min_size=1, max_size=30))


@settings(max_examples=60, deadline=None)
@given(_any_votes())
def test_any_votes_are_ranked_with_finite_strengths_or_refused(votes: list[Vote]) -> None:
    """All ties, all wins, one vote, one rater, wild note counts: warnings are errors here."""
    if len(separate_groups(votes)) > 1:
        with pytest.raises(Disconnected):
            rank(votes, resamples=5)
        return
    found = rank(votes, resamples=5)
    assert found.converged
    assert all(math.isfinite(standing.strength) for standing in found.standings)
    assert sum(standing.strength for standing in found.standings) == pytest.approx(0, abs=1e-9)
