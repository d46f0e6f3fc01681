"""Misspelt keys of a serve config, which Ray accepts silently, are errors."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.deploy.config_lint import lint_serve_config

CONFIG = Path(__file__).resolve().parents[2] / "serve_config.yaml"


def lint_with(tmp_path, change):
    config = yaml.safe_load(CONFIG.read_text())
    change(config, config["applications"][0], config["applications"][0]["deployments"][2])
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return lint_serve_config(path)


def test_the_shipped_config_has_no_fault():
    assert lint_serve_config(CONFIG) == []


def test_a_config_of_version_0_1_0_is_still_read():
    args = ServingArgs.model_validate({"near_midi_bytes": 1024, "recalled_s": 60, "model_line": True})
    assert (args.in_process_midi_bytes, args.redis_cache_s) == (1024, 60)
    with pytest.raises(ValidationError, match="model_lines"):
        ServingArgs.model_validate({"model_lines": True})


def test_the_shipped_config_binds_to_loopback_and_names_every_deployment():
    from harmonixr_platform.serving.deploy.config_lint import DEPLOYMENTS

    config = yaml.safe_load(CONFIG.read_text())
    assert config["http_options"]["host"] == "127.0.0.1"
    assert [d["name"] for d in config["applications"][0]["deployments"]] == list(DEPLOYMENTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, a, d: c.update(aplications=[]), "did you mean applications?"),
        (lambda c, a, d: c["http_options"].update(prot=1), "did you mean port?"),
        (lambda c, a, d: a.update(import_pth="x"), "did you mean import_path?"),
        (lambda c, a, d: a["args"].update(deadlines_s=3), "did you mean deadline_s?"),
        (lambda c, a, d: a["args"].update(deadline_s=-3), "args.deadline_s"),
        (lambda c, a, d: d.update(max_ongoing_request=3), "did you mean max_ongoing_requests?"),
        (lambda c, a, d: d["ray_actor_options"].update(num_cpu=3), "did you mean num_cpus?"),
        (lambda c, a, d: d.update(autoscaling_config={"min_replica": 1}), "did you mean min_replicas?"),
        (lambda c, a, d: d["user_config"].update(champoin="x"), "did you mean champion?"),
        (lambda c, a, d: d.update(name="Modell"), "did you mean Model?"),
        (lambda c, a, d: d.pop("max_queued_requests"), "max_queued_requests is left to Ray's default"),
        (lambda c, a, d: c["http_options"].pop("host"), "127.0.0.1"),
        (lambda c, a, d: d.update(ray_actor_options=3), "not a mapping"),
        (lambda c, a, d: d.update(num_replicas="many"), "num_replicas"),
    ],
)
def test_a_fault_anywhere_is_reported_with_its_remedy(tmp_path, change, message):
    faults = lint_with(tmp_path, change)
    assert any(message in fault for fault in faults), faults


def test_a_file_that_is_no_config_is_reported(tmp_path):
    path = tmp_path / "x.yaml"
    assert "no such file" in lint_serve_config(path)[0]
    path.write_text("a: [")
    assert "not YAML" in lint_serve_config(path)[0]
    path.write_text("- 1")
    assert "mapping" in lint_serve_config(path)[0]
