"""The training script on toy books: its loss, its optimizer, its resumption and its export."""

import itertools
import json

import numpy as np
import pytest

import minigpt
from minigpt.parallel import Threads
from minigpt.parameters import arrays_by_name
from scripts.tiny import train as train_tiny
from scripts.tiny.books import read_books
from scripts.tiny.muon import Muon, orthogonalize
from scripts.tiny.sampled_softmax import all_columns, draw_columns, inclusion_probabilities
from scripts.tiny.train import Recipe, Run
from scripts.tiny.windows import Vocabulary, Windows, opening_positions

RECIPE = Recipe(steps=60, n_layer=1, n_head=2, n_embd=16, n_positions=16, batch=4, n_columns=15)
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
def counts(books):
    vocabulary = Vocabulary(books[0])
    return np.bincount(np.concatenate([vocabulary.compact(book.ids) for book in books[0]]))


@pytest.fixture(scope="module")
def windows(books):
    ids = np.concatenate([book.ids for book in books[0]])
    return Windows(Vocabulary(books[0]).compact(ids), opening_positions(ids), 4, 16, seed=0)


@pytest.fixture(scope="module")
def rare_words():
    """A model of 3,000 tokens, of which the last are seldom, and a batch of its ids and targets."""
    random = np.random.default_rng(0)
    model = train_tiny.new_model(Recipe(n_layer=1, n_head=2, n_embd=16, n_positions=16), 3000)
    model.buffer[:] += np.float32(0.1) * random.standard_normal(model.buffer.size, np.float32)
    counts = 10_000 // np.arange(1, 3001)
    return model.model, counts, *random.choice(3000, (2, 4, 16), p=counts / counts.sum())


def test_with_every_column_the_sampled_softmax_is_the_exact_one(rare_words):
    model, counts, ids, targets = rare_words
    loss, expected = minigpt.gradients(model, ids, targets)
    with Threads(1) as threads:  # which takes the four windows two by two
        sampled_loss, found = train_tiny.batch_gradients(
            model, ids, targets, all_columns(len(counts)), threads
        )
    assert sampled_loss == pytest.approx(loss, rel=1e-6)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-7, err_msg=name)


def test_a_fifth_of_the_columns_gives_the_gradient_on_average(rare_words):
    model, counts, ids, targets = rare_words
    random = np.random.default_rng(0)
    probabilities = inclusion_probabilities(counts, 600)
    loss, exact = minigpt.gradients(model, ids, targets)
    losses, mean = [], dict.fromkeys(exact, 0.0)
    with Threads(2) as threads:
        for _ in range(100):
            columns = draw_columns(probabilities, targets, random)
            sampled_loss, gradients = train_tiny.batch_gradients(model, ids, targets, columns, threads)
            losses.append(sampled_loss)
            mean = {name: mean[name] + gradients[name] / 100 for name in exact}
    assert np.mean(losses) == pytest.approx(loss, abs=0.03)
    found, expected = (np.concatenate([g[name].ravel() for name in exact]) for g in (mean, exact))
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999


def test_as_many_columns_are_drawn_as_asked_for_and_the_frequent_ones_always(rare_words):
    _, counts, _, targets = rare_words
    probabilities = inclusion_probabilities(counts, 600)
    assert probabilities.sum() == pytest.approx(600)
    assert (probabilities[:50] == 1).all()
    columns = draw_columns(probabilities, targets, np.random.default_rng(1))
    assert np.isin(targets, columns.ids).all()
    assert (columns.log_weights[np.isin(columns.ids, targets)] == 0).all()
    assert (columns.log_weights[columns.ids > 2000] >= 0).all()


def test_an_orthogonalized_matrix_has_singular_values_near_one():
    matrix = np.random.default_rng(0).standard_normal((24, 40), np.float32)
    for each in (matrix, matrix.T):
        values = np.linalg.svd(orthogonalize(each), compute_uv=False)
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_muon_takes_the_steps_of_torchs():
    torch = pytest.importorskip("torch", reason="compares Muon with torch's")
    random = np.random.default_rng(0)
    start = random.standard_normal((12, 20))
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    theirs = torch.optim.Muon([parameter], lr=0.01, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    ours = {"mlp.c_fc.weight": start.copy()}
    muon = Muon(ours, 0.05)
    with Threads(1) as threads:
        for _ in range(10):
            gradient = random.standard_normal(start.shape)
            parameter.grad = torch.from_numpy(gradient.copy())
            theirs.step()
            muon.step({"mlp.c_fc.weight": gradient}, 0.01, 1.0, threads)
    # torch orthogonalizes in bfloat16, which has three digits.
    moved = np.abs(ours["mlp.c_fc.weight"] - start).max()
    assert np.abs(ours["mlp.c_fc.weight"] - parameter.detach().numpy()).max() < 0.05 * moved


def test_muon_treats_queries_keys_and_values_as_three_matrices():
    random = np.random.default_rng(0)
    start, gradient = random.standard_normal((2, 8, 24))
    whole, pieces = {"h.0.attn.c_attn.weight": start.copy()}, {}
    for number, part in enumerate(np.split(start, 3, axis=1)):
        pieces[f"{number}"] = part.copy()
    with Threads(1) as threads:
        Muon(whole, 0.0).step({"h.0.attn.c_attn.weight": gradient}, 0.1, 1.0, threads)
        Muon(pieces, 0.0).step(
            {f"{n}": part for n, part in enumerate(np.split(gradient, 3, axis=1))}, 0.1, 1.0, threads
        )
    np.testing.assert_allclose(whole["h.0.attn.c_attn.weight"], np.hstack(list(pieces.values())), atol=1e-6)


def test_targets_are_the_inputs_one_later_and_windows_open_with_sentences(windows):
    inputs, targets = windows.at(0)
    assert inputs.shape == targets.shape == (4, 16)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    starts = np.concatenate([windows.starts(epoch) for epoch in range(5)])
    assert 0.4 < np.isin(starts, windows.openings).mean() < 0.8


def test_every_parameter_learns_but_the_bias_that_stays(windows, counts):
    run = Run(RECIPE, counts)
    before = {name: array.copy() for name, array in arrays_by_name(run.flat.model.parameters).items()}
    with Threads(2) as threads:
        list(itertools.islice(train_tiny.train(run, windows, threads), 3))
    after = arrays_by_name(run.flat.model.parameters)
    assert [name for name in before if np.array_equal(before[name], after[name])] == ["ln_f.bias"]


def test_a_resumed_run_equals_an_uninterrupted_one_and_the_loss_falls(tmp_path, windows, counts):
    with Threads(2) as threads:
        whole = Run(RECIPE, counts)
        losses = list(train_tiny.train(whole, windows, threads))
        assert losses[-1] < losses[0] - 1

        interrupted = Run(RECIPE, counts)
        for _ in itertools.islice(train_tiny.train(interrupted, windows, threads), 25):
            pass
        interrupted.save(tmp_path)
        resumed = Run(RECIPE, counts)
        resumed.restore(tmp_path)
        assert resumed.step == 25
        assert list(train_tiny.train(resumed, windows, threads)) == losses[25:]
    np.testing.assert_array_equal(whole.flat.buffer, resumed.flat.buffer)


def test_resuming_another_recipe_is_refused(tmp_path):
    Run(RECIPE, np.ones(20, int)).save(tmp_path)
    other = Run(Recipe(n_layer=2, n_head=2, n_embd=16, n_positions=16), np.ones(20, int))
    with pytest.raises(SystemExit, match="another recipe"):
        other.restore(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, books_folder):
    """The folder of a run that the command line has made."""
    folder = tmp_path_factory.mktemp("run")
    sizes = "--n-layer 1 --n-head 2 --n-embd 16 --n-positions 16 --batch 4 --steps 40 --n-columns 15"
    where = ["--books", str(books_folder), "--run", str(folder)]
    train_tiny.main([*where, "--held-out", "unseen", *sizes.split()])
    return folder


def test_the_export_gives_what_never_occurred_no_probability_and_the_rest_its_own(trained, books):
    vocabulary = Vocabulary(books[0] + books[1])
    model, _ = minigpt.load(trained / "model")
    ids = books[1][0].ids[:17]
    probabilities = minigpt.probabilities(model(ids[:-1]))
    never_seen = np.setdiff1d(np.arange(50257), vocabulary.token_ids)
    assert probabilities[:, never_seen].sum(-1).max() < 1e-5

    run = Run(
        Recipe(steps=40, n_layer=1, n_head=2, n_embd=16, n_positions=16, batch=4, n_columns=15),
        np.bincount(vocabulary.compact(np.concatenate([b.ids for b in books[0]])), minlength=len(vocabulary)),
    )
    run.restore(trained)
    compact = vocabulary.compact(ids)
    restricted, _ = minigpt.gradients(run.flat.model, compact[:-1], compact[1:])
    full = -np.log(probabilities[np.arange(16), ids[1:]]).mean()
    assert full == pytest.approx(restricted, abs=0.02)


def test_the_export_loads_in_transformers(trained):
    torch = pytest.importorskip("torch", reason="loads the export in transformers")
    transformers = pytest.importorskip("transformers", reason="loads the export in transformers")
    config = json.loads((trained / "model" / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert (trained / "model" / "model.safetensors").stat().st_size < 2 * (50257 + 16 + 300) * 16
    theirs = transformers.GPT2LMHeadModel.from_pretrained(trained / "model", dtype=torch.float32)
    ours, tokenizer = minigpt.load(trained / "model")
    ids = tokenizer.encode("The cat sat")
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(ours(ids), expected, atol=1e-4)
