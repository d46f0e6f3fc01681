"""A control declared in one place is on the command line, in the HTTP schema, on the page and in the checks."""

import subprocess
import sys

TOY = """
    swing: Annotated[
        float | None,
        Control(
            "how far off-beats are late, 0-1",
            low=0,
            high=1,
            label="Swing, about",
            applies_to=("rhythm",),
            trained_as="swing",
        ),
    ] = None
"""
PROGRAM = """
import argparse, importlib.util, sys
from pathlib import Path

# The module with one more declaration in AttributeControls, and nothing else changed.
spec = importlib.util.find_spec("harmonixr_model.prompt.controls")
source = Path(spec.origin).read_text(encoding="utf-8")
place = "    def __post_init__"
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
exec(compile(source.replace(place, sys.argv[1] + "\\n" + place, 1), spec.origin, "exec"), module.__dict__)

import gradio
from harmonixr_model.errors import ControlError
from harmonixr_platform.cli import infill_options
from harmonixr_platform.requests import attribute_controls_of
from harmonixr_platform.schemas import ControlSpec, InfillRequest
from harmonixr_platform.schemas.base import content_json
from harmonixr_ui.fill import control_fields
from harmonixr_ui.form import PAGE_CONTROLS, Form, infill_request

def refusal(act, *args, **options):
    try:
        act(*args, **options)
    except (ControlError, ValueError) as error:
        return str(error)
    raise AssertionError("not refused")

# The command line.
parser = argparse.ArgumentParser()
infill_options.add_arguments(parser)
args = parser.parse_args(["song.mid", "--swing", "0.5"])
controls = infill_options.attribute_controls_of(args)
assert controls.swing == 0.5
assert "how far off-beats are late" in parser.format_help()

# The HTTP schema, and what a request becomes.
field = InfillRequest.model_json_schema()["$defs"]["ControlSpec"]["properties"]["swing"]
assert "how far off-beats are late" in field["description"]
assert {"type": "number", "minimum": 0, "maximum": 1} in field["anyOf"]
assert attribute_controls_of(ControlSpec.model_validate({"swing": 0.5})) == controls
assert "swing" in refusal(ControlSpec.model_validate, {"swing": 2})

# Stored records: a request without it keeps its hash.
assert "swing" not in content_json(ControlSpec())
assert '"swing":0.5' in content_json(ControlSpec.model_validate({"swing": 0.5}))

# The page.
with gradio.Blocks():
    assert "Swing, about" in [made.label for made in control_fields(PAGE_CONTROLS)]
assert infill_request(Form(5, 8, [1], controls={"swing": "0.5"}), "").controls.swing == 0.5

# The checks.
assert "give 0 to 1" in refusal(module.AttributeControls, swing=2)
assert "not trained to follow swing" in refusal(module.check_supported, controls, {})
module.check_supported(controls, {"controls": ["swing"]})
assert "swing does not apply" in refusal(controls.check_field, "pitch")
controls.check_field("rhythm")
"""


def test_a_new_control_is_declared_once():
    made = subprocess.run([sys.executable, "-c", PROGRAM, TOY], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
