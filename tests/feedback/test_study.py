"""A study's definition: what is left out has a default, what is wrong is named with its place."""

from pathlib import Path

import pytest

from harmonixr_platform.cli import main
from harmonixr_platform.feedback.errors import BadStudy
from harmonixr_platform.feedback.studies.definition import parse_study, read_study

CONFIGS = Path(__file__).resolve().parents[2] / "platform" / "configs"
TWO = "arms: [{name: x}, {name: y}]"


def written(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_studies_that_ship_can_be_read_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    for file in sorted(CONFIGS.glob("study*.yaml")):
        study = read_study(file)
        assert main(["feedback", "study", "check", str(file)]) == 0
        assert study.version in capsys.readouterr().out


def test_little_is_enough(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, f"name: small\n{TWO}"))
    assert [arm.model for arm in study.arms] == ["champion", "champion"]
    assert (study.quotas.raters_per_pair, study.repeats.share, study.gold.share) == (2, 0.1, 0.1)


def test_any_change_of_the_definition_is_another_version() -> None:
    values = {"name": "s", "arms": [{"name": "x"}, {"name": "y"}]}
    version = parse_study(values, source="s").version
    assert parse_study(values, source="elsewhere").version == version
    assert version.startswith("s@")
    assert parse_study(values | {"quotas": {"per_rater": 41}}, source="s").version != version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"name: s\n{TWO}\nquota: 3", "quota is not a setting of a study"),
        (f"name: s\n{TWO}\nquotas: {{per_ratr: 3}}", "quotas.per_ratr is not a setting"),
        (f"name: Big Name\n{TWO}", "name: String should match"),
        ("name: s\narms: [{name: x}]", "one arm alone cannot be compared"),
        ("name: s\narms: [{name: x}, {name: x}]", "arms need different names"),
        (f"name: s\n{TWO}\nquotas: {{raters_per_pair: 5, most_per_pair: 3}}", "most_per_pair \\(3\\) must not be less"),
        (f"name: s\n{TWO}\ncontexts: {{gaps: {{min_bars: 4, max_bars: 2}}}}", "contexts.gaps: min_bars"),
        (f"name: s\n{TWO}\nrepeats: {{share: 0.4}}\ngold: {{share: 0.3}}", "more than half of a rater's comparisons"),
        ("name: s\narms: [{name: x, sampling: {n: 4}}, {name: y}]", "arms.0.sampling: an arm sets temperature"),
        (f"name: s\n{TWO}\nscheduling: {{epsilon: 0}}", "scheduling.epsilon: Input should be greater than 0"),
        ("- name", "is not a study"),
        ("name: [", "is not YAML"),
    ],
)
def test_an_error_names_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadStudy, match=message):
        read_study(written(tmp_path, text))


def test_a_missing_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback", "study", "check", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
