"""The settings of the environment and their error messages."""

import stat
from pathlib import Path

import pytest

from harmonixr_platform.settings import Settings, SettingsError


def test_an_unknown_variable_fails_and_names_the_nearest_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMONIXR_REDIS_ULR", "redis://x")
    with pytest.raises(SettingsError, match=r"HARMONIXR_REDIS_ULR .* HARMONIXR_REDIS_URL"):
        Settings()


def test_variables_of_the_test_suites_may_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMONIXR_TEST_WHATEVER", "1")
    Settings()


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARMONIXR_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HARMONIXR_API_PORT", "8123")
    monkeypatch.setenv("HARMONIXR_REDIS_URL", "")
    settings = Settings()
    assert (settings.state_dir, settings.api_port, settings.redis_url) == (tmp_path, 8123, "")
    assert settings.objects_url == (tmp_path / "objects").as_uri()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HARMONIXR_API_PORT", "99999"),
        ("HARMONIXR_REDIS_URL", "http://x"),
        ("HARMONIXR_OBJECT_STORE_URL", "/just/a/path"),
        ("HARMONIXR_COMPARISON_TTL_S", "soon"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        Settings()
    assert "\n" not in str(caught.value)


def test_secrets_are_in_no_repr_and_no_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMONIXR_RATER_SECRET", "hush-hush")
    monkeypatch.setenv("HARMONIXR_S3_SECRET_KEY", "hush-hush")
    settings = Settings()
    assert "hush" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.rater_key() == b"hush-hush"


def test_the_rater_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    first = Settings(state_dir=tmp_path).rater_key()
    assert len(first) >= 32
    assert Settings(state_dir=tmp_path).rater_key() == first
    assert stat.S_IMODE((tmp_path / "rater_secret").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["rater_secret"]


def test_a_relative_state_dir_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(state_dir=Path("here")).state_dir == tmp_path / "here"
