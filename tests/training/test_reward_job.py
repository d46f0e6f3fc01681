"""From judged pairs to a registered reward model: what is used, what is left out, and the whole job on Ray."""

import math
import random
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import torch

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.fill.infiller import Infiller
from harmonixr_model.fill.ranker import Ranker
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.loss import LOSS, TIE, WIN
from harmonixr_model.preference.model import RewardHeads
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.feedback.studies.pool_pairs import FillModel, Piece, build_pool
from harmonixr_platform.registry import Lineage, open_registry
from harmonixr_platform.schemas import ComparisonRequest, JudgmentRequest, Pair
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.training.reward_data import Fill, comparisons_of, windows_of

CONFIGS = Path(__file__).resolve().parents[2] / "platform" / "configs"
RATERS = ("rater-key-one", "rater-key-two", "rater-key-three")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory):
    """A state folder with a tiny model in service, a pool of its fills, and judgments that were moved to objects."""
    torch.set_num_threads(1)
    state = tmp_path_factory.mktemp("state")
    settings = Settings(state_dir=state)
    torch.manual_seed(0)
    save_checkpoint(state / "tiny.safetensors", InfillTransformer(_TINY), info={})
    registry = open_registry(settings)
    version = registry.register("infill", state / "tiny.safetensors", Lineage(note="tiny"))
    registry.promote("infill", version.version)
    model = FillModel(Infiller.load(state / "tiny.safetensors"), version.version, version.sha256)
    pieces = [Piece.of(compose_song(seed)) for seed in range(4)]
    store = open_object_store(settings)
    made = list(build_pool(store, pieces, pool="default", models=[model], pairs=8, seed=1))
    assert sum(isinstance(pair, Pair) for pair in made) >= 6
    with EmbeddedRedis(state):
        # Each look at the clock is a minute later: time enough to have listened.
        minutes = count()
        service = FeedbackService.open(
            settings, rng=random.Random(0), now=lambda: datetime.now(UTC) + timedelta(minutes=next(minutes))
        )
        _judge(service, rounds=6)
        mover = Mover.open(settings)
        while mover.run_once():
            pass
        mover.close()
    return settings


_TINY = InfillConfig(width=32, layers=2, heads=2, dropout=0.0, max_length=1024)


def _judge(service: FeedbackService, *, rounds: int) -> None:
    """Prefer the side with more notes; every rater also chooses tie, both bad and skip once."""
    rng = random.Random(0)
    for rater in RATERS:
        for turn in range(rounds):
            view = service.create_comparison(ComparisonRequest(rater_key=rater, pool="default"))
            more = "a" if len(view.a.notes) >= len(view.b.notes) else "b"
            choice = {0: "tie", 1: "both_bad", 2: "skip"}.get(turn, more)
            intervals = [(view.start_s, view.end_s)]
            judgment = {
                "listening": {"intervals_a": intervals, "intervals_b": intervals},
                "judgment_id": f"{rater}-{turn}-{rng.randrange(10**6)}",
                "comparison_id": view.comparison_id,
                "token": view.token,
                "rater_key": rater,
                "choice": choice,
                "simulated": turn == rounds - 1,
            }
            service.record_judgment(JudgmentRequest.model_validate(judgment))
    service.close()


def test_ties_count_and_other_judgments_are_left_out_and_counted(settings):
    judged = read_feedback(open_object_store(settings)).judged
    found = comparisons_of(judged, use_simulated=True)
    assert len(judged) == 18
    assert {pair.outcome for pair in found.pairs} <= {WIN, LOSS, TIE}
    assert sum(pair.outcome == TIE for pair in found.pairs) == 3
    assert found.counts["both_bad"] == 3
    assert found.counts["skip"] == 3
    assert found.counts["used"] + found.counts["simulated_used"] == len(found.pairs) == 12


def test_simulated_judgments_can_be_left_out(settings):
    judged = read_feedback(open_object_store(settings)).judged
    found = comparisons_of(judged, use_simulated=False)
    assert found.counts["simulated"] == 3
    assert len(found.pairs) == 9


def test_the_outcome_does_not_depend_on_the_side_of_a_fill(settings):
    judged = read_feedback(open_object_store(settings)).judged
    found = comparisons_of(judged, use_simulated=True)
    decided = [item for item in judged if item.outcome in {"first", "second"}]
    assert any(item.comparison.swapped for item in decided)
    assert any(not item.comparison.swapped for item in decided)
    pairs = [pair for pair in found.pairs if pair.outcome != TIE]
    for item, pair in zip(decided, pairs, strict=True):
        winner = found.fills[pair.first if pair.outcome == WIN else pair.second].candidate
        assert winner == (item.pair.first if item.outcome == "first" else item.pair.second)


def test_a_fill_is_read_with_its_own_prompts(settings):
    store = open_object_store(settings)
    pair = read_feedback(store).judged[0].pair
    windows = windows_of(Fill(pair, pair.first), max_length=_TINY.max_length)
    assert tuple(tuple(window.tokens) for window in windows) == pair.first.tokens


def test_tokens_that_do_not_match_the_prompt_are_refused(settings):
    pair = read_feedback(open_object_store(settings)).judged[0].pair
    broken = pair.first.model_copy(update={"tokens": (pair.first.tokens[0][:-2],)})
    with pytest.raises(HarmonixrError):
        windows_of(Fill(pair, broken), max_length=_TINY.max_length)


def test_a_ranker_scores_the_same_after_it_was_saved(settings, tmp_path):
    registry = open_registry(settings)
    trunk, _ = load_checkpoint(registry.fetch(registry.resolve("infill")))
    heads = RewardHeads(RewardConfig(trunk_width=trunk.config.width, heads=3, head_width=8))
    for parameter in (heads.outer_HW, heads.linear_HI):
        torch.nn.init.normal_(parameter)
    ranker = Ranker(trunk, heads, {"note": "untrained"})
    pair = read_feedback(open_object_store(settings)).judged[0].pair
    fills = [windows_of(Fill(pair, side), max_length=_TINY.max_length) for side in (pair.first, pair.second)]
    ranker.save(tmp_path / "reward.safetensors")
    ranker.save(tmp_path / "again.safetensors")
    assert (tmp_path / "reward.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    loaded = Ranker.load(tmp_path / "reward.safetensors")
    before, after = ranker.score(fills), loaded.score(fills)
    assert before == after
    assert before[0] != before[1]
    assert all(reward.lower < reward.mean for reward in before)
    assert loaded.info == {"note": "untrained"}
    assert ranker.score([]) == []


def test_a_file_that_is_no_reward_model_is_refused_with_a_remedy(settings, tmp_path):
    registry = open_registry(settings)
    with pytest.raises(HarmonixrError, match="fit it again"):
        Ranker.load(registry.fetch(registry.resolve("infill")))
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(HarmonixrError, match="not a safetensors file"):
        Ranker.load(tmp_path / "junk.safetensors")


def test_too_few_judgments_are_refused_before_ray_is_started(settings):
    from harmonixr_platform.training import reward_job

    with pytest.raises(HarmonixrError, match="500 of 2 pieces or more are needed"):
        reward_job.run(CONFIGS / "train_reward.yaml", ["min_comparisons=500"], settings=settings)


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 2])
def test_the_job_fits_registers_and_reports(settings, workers):
    from harmonixr_platform.training import reward_job

    lines: list[str] = []
    fitted = reward_job.run(
        CONFIGS / "train_reward_debug.yaml",
        [f"scaling.workers={workers}", "register=true", "register_as=challenger", f"seed={workers}"],
        settings=settings,
        log=lines.append,
    )
    assert fitted.version is not None
    ranker = Ranker.load(open_registry(settings).fetch(fitted.version))
    data = ranker.info["data"]
    assert data["train_comparisons"] + data["stopping_comparisons"] + data["held_out_comparisons"] == 12
    assert fitted.info["held_out"]["comparisons"] == data["held_out_comparisons"] > 0
    assert math.isfinite(fitted.info["held_out"]["log_loss"])
    assert fitted.is_promoted == (fitted.info["held_out"]["interval"][0] > 0.5)
    assert fitted.version.lineage.parents == (f"infill/{open_registry(settings).resolve('infill').version}",)
    assert any("held out" in line for line in lines)


def test_the_job_runs_in_this_process_without_workers(settings):
    from harmonixr_platform.training import reward_job

    overrides = ["scaling.workers=0", "register=true", "name=here", "held_out_raters=0.34"]
    fitted = reward_job.run(CONFIGS / "train_reward_debug.yaml", overrides, settings=settings, log=lambda line: None)
    assert fitted.version is not None
    ranker = Ranker.load(open_registry(settings).fetch(fitted.version))
    assert ranker.info["quality"].keys() >= {"reliability", "accuracy_by_margin", "human_ceiling", "nuisances"}
    assert ranker.info["held_out_others"]["raters"]["comparisons"] > 0
    assert 0 <= ranker.info["quality"]["nuisances"]["r_squared"] <= 1


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.ray), pytest.param(2, marks=pytest.mark.ray)])
def test_dpo_registers_a_model_that_can_fill_and_leaves_the_champion_alone(settings, workers):
    from harmonixr_platform.training import dpo_job

    registry = open_registry(settings)
    champion = registry.resolve("infill").version
    overrides = [f"scaling.workers={workers}", "register=true", f"name=dpo-{workers}", "register_as=challenger"]
    preferred = dpo_job.run(CONFIGS / "train_dpo_debug.yaml", overrides, settings=settings, log=lambda line: None)
    learned = preferred.info["dpo"]
    assert preferred.version is not None
    assert preferred.version.version != champion
    assert registry.resolve("infill").version == champion
    assert registry.resolve("infill", "challenger").version == preferred.version.version
    assert learned["gaps"] > 0
    assert learned["counts"]["both_bad"] == 3
    assert learned["from"]["version"] == champion
    assert learned["kl_nats_a_fill"] is None or math.isfinite(learned["kl_nats_a_fill"])
    Infiller.load(registry.fetch(preferred.version))
