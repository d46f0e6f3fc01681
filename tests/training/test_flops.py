"""The arithmetic that is said to be done is what the model really does; a run says what share of the peak it uses."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harmonixr_model.data.collate import Batch
from harmonixr_model.infill.config import sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.training.flops import batch_flops, measure_peak, peak_of
from harmonixr_model.training.infill_task import BatchConfig, bucket, corpus_task
from harmonixr_model.training.local_run import estimate_flops, identity
from harmonixr_model.training.loop import LoopConfig, new_run, train
from harmonixr_model.training.report import metrics, progress_line
from harmonixr_model.training.sharding import blocks_of

torch.set_num_threads(1)
CPU = torch.device("cpu")
MODEL = sized("nano", width=64, layers=3, heads=2, dropout=0.0)


def batch(rows, tokens, prefix):
    return Batch(
        tokens_BT=torch.zeros(rows, tokens, dtype=torch.long),
        coordinates_BTK=torch.zeros(rows, tokens, len(COORDINATE_SIZES), dtype=torch.long),
        prefix_length_B=torch.full((rows,), prefix),
        length_B=torch.full((rows,), tokens),
        loss_mask_BT=torch.ones(rows, tokens, dtype=torch.bool),
    )


def test_the_count_is_that_of_the_operations_pytorch_ran():
    read = batch(2, 96, prefix=96)  # a prefix sees all of itself, so no product of attention is masked away
    # Fused attention is unknown to the counter on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = InfillTransformer(MODEL)(read.tokens_BT, read.coordinates_BTK, read.prefix_length_B, read.length_B)
        logits.sum().backward()
    assert batch_flops(MODEL, read) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_masked_attention_and_padding_are_not_counted():
    whole, fill, short = (batch_flops(MODEL, batch(1, *lengths)) for lengths in ((96, 96), (96, 0), (48, 0)))
    assert short < fill < whole
    padded = batch(1, 96, 0)
    padded.loss_mask_BT[:, 48:] = False
    padded.length_B.fill_(48)
    assert batch_flops(MODEL, padded) == pytest.approx(short, rel=0.02)


def test_the_peak_of_a_processor_is_measured_and_leaves_the_random_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    peak = peak_of(CPU, is_bf16=False)
    assert torch.equal(torch.rand(1), expected)
    assert 1e8 < peak.flops < 1e13
    assert "fp32" in peak.source
    assert measure_peak(CPU, torch.float32) > 1e8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_composed_corpus(tmp_path_factory.mktemp("corpus"), pieces=6)


def test_a_run_reports_its_mfu(corpus):
    loop = LoopConfig(steps=2, warmup=1, validate_every=2, precision="fp32")
    task = corpus_task(corpus, BatchConfig(1200, 512, validation_examples=2), context=(256,), steps=2)
    flops = sum(batch_flops(MODEL, b) for step in (0, 1) for b in task.batches(step))
    ticks = iter(range(1000))
    run = new_run(InfillTransformer(MODEL), loop)
    flops_estimate = estimate_flops(MODEL, loop, CPU)
    reported = list(train(run, task, loop, device=CPU, flops_estimate=flops_estimate, clock=lambda: float(next(ticks))))
    # The clock is read once as the run begins and once as each step ends; a second passed before the first step did.
    assert reported[0].flops_per_s == pytest.approx(sum(batch_flops(MODEL, b) for b in task.batches(0)))
    assert 0 < reported[1].flops_per_s < flops
    assert reported[0].mfu == reported[0].flops_per_s / flops_estimate.peak_flops
    assert f"MFU {reported[0].mfu:.0%} of {flops_estimate.peak_flops / 1e9:,.0f} GFLOP/s" in progress_line(reported[0])
    assert metrics(reported[0])["mfu"] == reported[0].mfu
    [silent, _] = train(new_run(InfillTransformer(MODEL), loop), task, loop, device=CPU)
    assert math.isnan(silent.mfu)
    assert "MFU" not in progress_line(silent)
    assert "mfu" not in metrics(silent)


def test_batches_by_length_have_little_padding(corpus):
    task = corpus_task(corpus, BatchConfig(16_000, 2048), context=(512,), steps=1)
    lengths = [len(example.tokens) for example in task.examples(0)]
    groups = bucket(lengths, max_tokens=2048)
    computed = sum(len(group) * max(lengths[index] for index in group) for group in groups)
    assert len(groups) > 3
    assert sum(lengths) / computed > 0.9


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # PyTorch's own, as it is imported
def test_compiling_takes_every_layer_and_renames_no_weight():
    """What it compiles to is PyTorch's; that its losses are the same, benchmarks/training.py --compile shows."""
    plain, compiled = (
        new_run(InfillTransformer(MODEL), LoopConfig(steps=1, compiles=compiles)) for compiles in (False, True)
    )
    assert len(blocks_of(compiled.model)) == 3
    assert all(block._compiled_call_impl is not None for block in blocks_of(compiled.model))
    assert all(block._compiled_call_impl is None for block in blocks_of(plain.model))
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()


def test_a_run_from_before_compile_and_parallel_resumes():
    was = identity(MODEL, LoopConfig(steps=1), BatchConfig(), (256,))
    assert not {"compiles", "parallel", "loader_workers"} & was.keys()
    now = identity(MODEL, LoopConfig(steps=1, compiles=True, parallel="fsdp"), BatchConfig(), (256,))
    assert now == was | {"compiles": True, "parallel": "fsdp"}
