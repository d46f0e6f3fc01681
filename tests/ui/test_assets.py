"""The page's modules fit together: every imported name is exported by the module it comes from."""

import re

import pytest

from harmonixr_ui.routes import ASSETS

MODULES = sorted(ASSETS.glob("*.js"))
IMPORT = re.compile(r"^import \{([^}]+)\} from '\./([a-z]+\.js)';", re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_import_finds_its_export_and_is_used(module):
    text = module.read_text()
    for names, source in IMPORT.findall(text):
        exported = EXPORT.findall((ASSETS / source).read_text())
        for name in (n.strip() for n in names.split(",")):
            assert name in exported, f"{source} exports no {name}"
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is imported and not used"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_module_opens_with_its_promise_and_fetches_nothing_from_elsewhere(module):
    text = module.read_text()
    assert text.startswith("// ")
    assert re.findall(r"https?://", text) == []
