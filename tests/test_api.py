"""`import minigpt`: what it offers, and that it costs nothing until it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigpt
from tests.synthetic import save_checkpoint


def test_the_example_of_the_docstring_and_the_rest_of_the_design(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, vocab_size=50257, n_embd=8, n_layer=2, n_head=2)
    model, tokenizer = minigpt.load(folder)
    ids = tokenizer.encode("I love")
    assert ids == [40, 1842]
    logits = model(ids)
    assert logits.shape == (2, 50257)
    assert logits.dtype == np.float32
    p = minigpt.probabilities(logits[-1], temperature=0.7)
    assert p.sum() == pytest.approx(1)
    generation = minigpt.generate(
        model, ids, max_new_tokens=5, temperature=0.8, top_k=40, seed=0, stop_ids=(50256,)
    )
    new_ids = list(generation)
    assert new_ids == generation.ids
    assert generation.stop_reason == "max_new_tokens"
    text = "".join(minigpt.generate_text(model, tokenizer, "I love", max_new_tokens=5, stop=["\n"], seed=0))
    assert isinstance(text, str)
    again = minigpt.load_model(folder)
    np.testing.assert_array_equal(again(ids), logits)
    assert model.new_cache(batch=8).lengths.shape == (8,)


def test_every_public_name_is_there() -> None:
    for name in minigpt.__all__:
        assert getattr(minigpt, name).__module__.startswith("minigpt")
    assert set(minigpt.__all__) <= set(dir(minigpt))
    assert "load" in dir(minigpt)


@pytest.mark.parametrize("name", minigpt._MODULES)
def test_a_module_is_there_without_an_import_of_its_own(name: str) -> None:
    code = f"import minigpt; print(minigpt.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == f"minigpt.{name}"


def test_type_checkers_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING are those that happen at run time."""
    tree = ast.parse(Path(minigpt.__file__).read_text(encoding="utf-8"))
    imports = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert imports == {(module, name) for name, module in minigpt._HOME.items()}


def test_every_error_is_public_and_of_one_family() -> None:
    from minigpt import errors

    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, Exception):
            assert getattr(minigpt, name) is error
            assert issubclass(error, minigpt.MiniGPTError)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        minigpt.laod  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, minigpt; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "rich", "tiktoken", "safetensors", "huggingface_hub"} & set(done.stdout.split())


def test_an_error_can_be_caught_before_anything_heavy_is_imported() -> None:
    code = "import sys, minigpt; minigpt.MiniGPTError; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
