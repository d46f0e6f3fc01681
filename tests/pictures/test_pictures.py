"""Pictures: projections keep neighbours, saliency bounds the effect of a change, files are read correctly."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from harmonixr_model import examples
from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.pictures.curves import CurveError, read_curve, smoothed
from harmonixr_model.pictures.embeddings import attributes_of_music, draw_embeddings
from harmonixr_model.pictures.parallel import SweepError, draw_parallel, read_trials
from harmonixr_model.pictures.projection import ProjectionError, pca, tsne
from harmonixr_model.pictures.saliency import draw_saliency, salient_notes, sampled_positions, token_weights
from harmonixr_platform.cli import main

torch.set_num_threads(1)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = InfillTransformer(sized("nano", width=32, layers=1, heads=2, max_length=1024)).eval()
    for block in model.layers():  # a fresh model's blocks change nothing, so that no token would see another
        torch.nn.init.normal_(block.attention.out.weight, std=0.5)
    return model


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, model, info={})
    return path


@pytest.fixture(scope="module")
def filled(model):
    song = Song.parse(examples.load("minuet-in-g"))
    session = FillSession(song, Region.bars(song.score, 8, 9, tracks=[0]), max_length=1024)
    prompt = session.next_prompt()
    [made] = Decoder(model).generate(prompt, seeds=[1], sampling=Sampling())
    return prompt, made.tokens


def tooltips(svg):
    root = ET.fromstring(svg)
    return [title.text for node in root.iter() if node is not root for title in node.findall(f"{SVG}title")]


def test_principal_components_find_the_plane_the_points_lie_on():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * (5, 2)
    turn, _ = np.linalg.qr(rng.normal(size=(7, 2)))
    found, shares = pca(plane @ turn.T + 3)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] > shares[1]
    distances = np.linalg.norm(plane[:, None] - plane[None], axis=2)
    assert np.linalg.norm(found[:, None] - found[None], axis=2) == pytest.approx(distances)


def test_t_sne_keeps_clusters_together_and_repeats_itself():
    rng = np.random.default_rng(0)
    labels = np.repeat(range(3), 20)
    points = rng.normal(size=(60, 10)) + 8 * np.eye(10)[labels]
    laid = tsne(points, perplexity=10)
    distances = np.linalg.norm(laid[:, None] - laid[None], axis=2) + np.diag(np.full(60, np.inf))
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert np.array_equal(laid, tsne(points, perplexity=10))


def test_too_few_points_have_no_picture():
    with pytest.raises(ProjectionError, match="give at least 36 points"):
        tsne(np.eye(8))
    with pytest.raises(ProjectionError, match="have no plane"):
        pca(np.zeros((2, 5)))


def test_every_embedding_is_a_dot_in_both_projections(model):
    attributes = attributes_of_music()
    svg = draw_embeddings(model, title="a < b")
    assert len(tooltips(svg)) == 2 * sum(len(attribute.labels) for attribute in attributes)
    assert "a &lt; b" in svg
    assert all(len(attribute.labels) == len(attribute.colours) for attribute in attributes)
    pitch = attributes[0]
    assert len(set(pitch.colours)) == 12
    assert pitch.colours[0] == pitch.colours[12]  # A0 and A1


def test_saliency_bounds_what_a_small_change_of_a_token_does(model, filled):
    prompt, fill = filled
    weights = token_weights(model, prompt, fill)
    tokens = torch.from_numpy(np.concatenate([prompt.prefix, fill])).long()[None]
    coordinates = torch.from_numpy(np.concatenate([prompt.coordinates, prompt.fill_coordinates(fill)])).long()[None]
    prefix = torch.tensor([len(prompt.prefix)])
    sampled = sampled_positions(prompt, fill)

    def likelihood(token=0, scaling=0.0):
        scale = torch.ones(1, tokens.shape[1], 32)
        # Some dimensions up, others down: a pre-norm model normalizes away a change of all dimensions.
        scale[0, token] += scaling * torch.tensor([1.0, -1.0]).repeat(16)
        hook = model.embedding.register_forward_hook(lambda _, __, output: output * scale)
        with torch.inference_mode():
            logits = model(tokens, coordinates, prefix)[0].double().log_softmax(-1)
        hook.remove()
        return float(logits[sampled - 1, tokens[0, sampled]].sum())

    eps, effective = 1e-2, 0
    for token in np.argsort(weights)[::-40]:
        change = abs(likelihood(token, eps) - likelihood()) / eps
        assert change <= 1.1 * weights[token] * 32**0.5 + 0.02
        effective += change > 0.1 * weights[token]
    assert effective > 3
    assert not model.embedding._forward_hooks


def test_a_model_that_ignores_its_context_has_no_saliency(filled):
    torch.manual_seed(0)
    blocked = InfillTransformer(sized("nano", width=32, layers=1, heads=2, max_length=1024)).eval()
    prompt, fill = filled
    weights = token_weights(blocked, prompt, fill)
    assert not weights[:-1].any()  # only SEP, the token before the fill, is read by what predicts it


def test_the_notes_of_the_picture_are_those_of_the_prompt(model, filled):
    prompt, fill = filled
    notes = salient_notes(prompt, token_weights(model, prompt, fill))
    song = Song.parse(examples.load("minuet-in-g"))
    tpq = song.score.ticks_per_quarter
    bars = song.score.bars
    shown = {(n.slot, n.bar, n.step, n.pitch) for n in notes if n.passage is None}
    played = {
        (track, bar.index - 8, round((note.onset - bar.start) * 24 / tpq), note.pitch)
        for track, content in enumerate(song.score.tracks)
        for bar in bars
        for note in content.notes
        if bar.start <= note.onset < bar.end
    }
    assert len(shown) > 20
    assert shown <= played
    assert not any(n.slot == 0 and n.bar in (0, 1) for n in notes if n.passage is None)  # that is hidden
    assert max(note.weight for note in notes) == 1
    svg = draw_saliency(model, prompt, fill, title="t")
    assert len([text for text in tooltips(svg) if text != "the fill"]) == len(notes)


def write_run(folder, losses):
    folder.mkdir()
    records = [{"step": step, "loss": loss, "tokens": 10 * step} for step, loss in enumerate(losses, 1)]
    records[-1]["valid_loss"] = 0.5
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder / "metrics.jsonl"


def test_the_last_record_of_a_repeated_step_counts(tmp_path):
    path = write_run(tmp_path / "a", [3, 2, 1])
    path.write_text(path.read_text() + '{"step": 2, "loss": 9, "tokens": 25}\n')
    curve = read_curve(path, name="a", measure="loss", against="tokens")
    assert curve.training == ((10, 3), (25, 9), (30, 1))
    assert curve.validation == ((30, 0.5),)
    path.write_text(path.read_text() + "{half a li")
    with pytest.raises(CurveError, match="line 5: not a step's metrics"):
        read_curve(path, name="a", measure="loss", against="step")


def test_smoothing_means_over_neighbours():
    assert smoothed([(0, 0), (1, 3), (2, 6)], window=3) == [(0, 1.5), (1, 3), (2, 4.5)]
    assert len(smoothed([(i, 0) for i in range(5000)], window=9)) <= 450


def test_loss_curves_of_several_runs_are_drawn(tmp_path, capsys):
    runs = [str(write_run(tmp_path / name, range(50, 0, -1)).parent) for name in ("one", "two")]
    assert main(["plot", "loss", *runs, "-o", str(tmp_path / "out.svg")]) == 0
    svg = (tmp_path / "out.svg").read_text()
    assert tooltips(svg) == ["one, step 50: 0.500", "two, step 50: 0.500"]
    assert ">one<" in svg
    assert ">two<" in svg


def write_trial(folder, settings, losses):
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(settings))
    lines = [json.dumps({"step": step, "valid_loss": loss}) for step, loss in enumerate(losses, 1)]
    (folder / "result.json").write_text("\n".join([*lines, '{"step": 99, "valid_lo']))


def test_a_sweep_is_read_from_its_folder_best_first(tmp_path):
    write_trial(tmp_path / "sweep" / "t1", {"rate": 0.1, "kind": "a"}, [5, 4, 4.5])
    write_trial(tmp_path / "sweep" / "t2", {"rate": 0.001, "kind": "b"}, [3])
    write_trial(tmp_path / "sweep" / "t3", {"rate": 0.01, "kind": "b"}, [])
    trials = read_trials(tmp_path / "sweep", metric="valid_loss")
    assert [(trial.best, trial.step, trial.settings["kind"]) for trial in trials] == [(3, 1, "b"), (4, 3, "a")]
    svg = draw_parallel(trials, metric="valid_loss", title="t")
    assert 'id="trial-0"' in svg
    assert 'id="trial-1"' in svg
    with pytest.raises(SweepError, match="no trial that reports reward"):
        read_trials(tmp_path / "sweep", metric="reward")


def test_the_command_draws_a_model_and_a_fill(checkpoint, tmp_path, capsys):
    out = str(tmp_path / "out.svg")
    assert main(["plot", "embeddings", "--model", str(checkpoint), "-o", out]) == 0
    assert "t-SNE" in (tmp_path / "out.svg").read_text()
    command = ["plot", "saliency", "minuet-in-g", "--bars", "9-10", "--tracks", "1", "--model", str(checkpoint)]
    assert main([*command, "-o", out]) == 0
    assert "the fill" in (tmp_path / "out.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["sweep", "nowhere"], "nowhere: no such file"),
        (["saliency", "nowhere.mid", "--bars", "1"], "nowhere.mid: no such file"),
    ],
)
def test_wrong_arguments_end_with_one_sentence_and_status_2(tmp_path, capsys, arguments, message):
    assert main(["plot", *arguments, "-o", str(tmp_path / "out.svg")]) == 2
    assert message in capsys.readouterr().err
