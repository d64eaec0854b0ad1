"""The training script on toy books: its loss, its resumption and its export."""

import itertools
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training script needs torch")
pytest.importorskip("tqdm", reason="the training script shows its progress with tqdm")
from scripts.tiny import train as train_tiny  # noqa: E402
from scripts.tiny.books import read_books  # noqa: E402
from scripts.tiny.train import Budget, HeadCrossEntropy, Recipe, Run, Vocabulary, Windows  # noqa: E402

RECIPE = Recipe(n_layer=1, n_head=2, n_embd=16, n_positions=16, batch=4, n_frequent=10, n_sampled=5)
SENTENCES = ("The cat sat on the mat.", '"I love you," said the cat.', "So the dog ran away from it.")


@pytest.fixture(scope="module")
def books_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    random = np.random.default_rng(0)
    for name in ("first", "second", "unseen"):
        (folder / f"{name}.txt").write_text("\n\n".join(random.choice(SENTENCES, 200)))
    return folder


@pytest.fixture(scope="module")
def books(books_folder):
    return read_books(books_folder, ["unseen"])


@pytest.fixture(scope="module")
def windows(books):
    ids = np.concatenate([book.ids for book in books[0]])
    return Windows(Vocabulary(books[0]).compact(ids), train_tiny.opening_positions(ids), RECIPE)


def test_the_fused_loss_equals_cross_entropy():
    torch.manual_seed(0)
    hidden = torch.randn(500, 32).bfloat16().float().requires_grad_()
    wte = (torch.randn(1000, 32) * 0.5).bfloat16().float().requires_grad_()
    targets = torch.randint(1000, (500,))
    expected = torch.nn.functional.cross_entropy(hidden @ wte.T, targets)
    expected_gradients = torch.autograd.grad(expected, (hidden, wte))
    loss = HeadCrossEntropy.apply(hidden, wte, targets, 1000, 1.0)
    gradients = torch.autograd.grad(loss, (hidden, wte))
    torch.testing.assert_close(loss, expected, atol=5e-3, rtol=0)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert (gradient - expected_gradient).norm() < 0.01 * expected_gradient.norm()


def test_the_sampled_softmax_is_right_on_average():
    torch.manual_seed(0)
    recipe = Recipe(n_layer=1, n_head=2, n_embd=16, n_positions=16, n_frequent=100, n_sampled=200)
    model = train_tiny.GPT2(recipe, n_vocab=2000)
    with torch.no_grad():
        model.wte.mul_(10)
    inputs, targets = torch.randint(2000, (2, 8, 16))
    exact = train_tiny.cross_entropy(model, inputs, targets).item()
    random = np.random.default_rng(0)
    estimates = [
        train_tiny.sampled_cross_entropy(model, inputs, targets, recipe, random).item() for _ in range(20)
    ]
    assert np.mean(estimates) == pytest.approx(exact, abs=0.02)


def test_targets_are_the_inputs_one_later_and_windows_open_with_sentences(windows):
    inputs, targets = windows.at(0)
    assert inputs.shape == targets.shape == (4, 16)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    starts = np.concatenate([windows._starts(epoch) for epoch in range(5)])
    assert 0.4 < np.isin(starts, windows.openings).mean() < 0.8


def test_a_resumed_run_equals_an_uninterrupted_one_and_the_loss_falls(tmp_path, windows, books):
    n_vocab = len(Vocabulary(books[0]))
    whole = Run(RECIPE, n_vocab, tmp_path)
    losses = list(train_tiny.train(whole, windows, Budget(60, None, 0), save_every=1e9))
    assert losses[-1] < losses[0] - 1

    interrupted = Run(RECIPE, n_vocab, tmp_path)
    for _ in itertools.islice(train_tiny.train(interrupted, windows, Budget(60, None, 0), 1e9), 25):
        pass
    interrupted.save()
    resumed = Run(RECIPE, n_vocab, tmp_path)
    resumed.restore()
    assert resumed.step == 25
    rest = list(train_tiny.train(resumed, windows, Budget(60, None, resumed.seconds), save_every=1e9))
    assert rest == losses[25:]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_resuming_another_recipe_is_refused(tmp_path):
    Run(RECIPE, 10, tmp_path).save()
    other = Run(Recipe(n_layer=2, n_head=2, n_embd=16, n_positions=16), 10, tmp_path)
    with pytest.raises(SystemExit, match="another recipe"):
        other.restore()


def test_the_export_loads_in_transformers(tmp_path, books_folder, books):
    transformers = pytest.importorskip("transformers", reason="loads the export in transformers")
    out = tmp_path / "out"
    sizes = "--n-layer 1 --n-head 2 --n-embd 16 --n-positions 16 --batch 4 --steps 40"
    folders = ["--books", str(books_folder), "--out", str(out), "--run", str(tmp_path)]
    train_tiny.main([*folders, "--held-out", "unseen", *sizes.split()])
    assert json.loads((out / "config.json").read_text())["architectures"] == ["GPT2LMHeadModel"]
    assert (out / "model.safetensors").stat().st_size < 2 * (50257 + 16 + 300) * 16

    model = transformers.GPT2LMHeadModel.from_pretrained(out, dtype=torch.float32)
    vocabulary = Vocabulary(books[0])
    ids = torch.from_numpy(books[1][0].ids[:17])
    with torch.no_grad():
        probabilities = model(ids[None, :-1]).logits[0].softmax(-1)
    never_seen = np.setdiff1d(np.arange(50257), vocabulary.token_ids)
    assert probabilities[:, never_seen].sum(-1).max() < 1e-5

    state = torch.load(tmp_path / "state.pt")
    trained = train_tiny.GPT2(RECIPE, len(vocabulary))
    trained.load_state_dict(state["model"])
    compact = torch.from_numpy(vocabulary.compact(ids.numpy()))
    restricted = train_tiny.cross_entropy(trained, compact[None, :-1], compact[None, 1:])
    full = -probabilities[torch.arange(16), ids[1:]].log().mean()
    assert full.item() == pytest.approx(restricted.item(), abs=0.02)
