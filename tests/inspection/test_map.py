"""The map is complete, and the page in docs/ is the one that the code makes."""

import re
from pathlib import Path

from minigpt import model as model_module
from minigpt.inspection.intervention import hook_names, smallest_model
from minigpt.inspection.map import STAGES, markdown, stages
from minigpt.model import named_parameters
from tests.synthetic import random_gpt2

ROOT = Path(__file__).parents[2]
MODEL = random_gpt2(n_layer=1)


def test_every_hook_is_there_once_and_in_order() -> None:
    assert [stage.hook.replace("*", "0") for stage in STAGES] == hook_names(MODEL)


def test_every_parameter_is_there() -> None:
    names = {name.replace("*", "0") for stage in STAGES for name in stage.checkpoint}
    assert names == named_parameters(MODEL).keys()


def test_every_line_names_its_hook() -> None:
    lines = Path(str(model_module.__file__)).read_text(encoding="utf-8").splitlines()
    for stage in stages():
        file, _, number = stage.where.partition(":")
        assert file == "model.py"
        assert "hook(" in lines[int(number) - 1]
        part = stage.hook.rpartition(".")[2]
        assert f'"{part}"' in lines[int(number) - 1] or re.search(r"ln_|scale", stage.hook)


def test_the_page_in_docs_is_up_to_date() -> None:
    page = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m minigpt map --markdown > docs/map.md"


def test_the_smallest_model_runs() -> None:
    assert smallest_model(n_layer=3)([0]).shape == (1, 1)
