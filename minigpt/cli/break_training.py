"""`minigpt break --train`: one classic mistake of learning, and what it does to gradients and losses."""

import difflib
from dataclasses import asdict

from ..errors import InputError
from ..inspection.backward_gallery import TRAINING_MISTAKES, Symptom, TrainingMistake, symptom
from .document import print_json
from .tables import WIDEST, Column, console, print_table, with_progress

MADE_IN = {
    "find": "another way back",
    "optimizer": "another optimizer",
    "coefficients": "other coefficients of the positions",
}
STEPS = (1, 5, 10, 20, 40, 60)  # whose losses are shown


def run(name: str, json: bool) -> None:
    """Make one mistake, or all, or list them."""
    if name == "list":
        show_list(json)
        return
    chosen = list(TRAINING_MISTAKES.values()) if name == "all" else [find_mistake(name)]
    found = list(
        with_progress((symptom(mistake, STEPS[-1]) for mistake in chosen), len(chosen), "making mistakes")
    )
    if json:
        print_json([as_document(*pair) for pair in zip(chosen, found, strict=True)])
    elif name == "all":
        show_all(chosen, found)
    else:
        show_one(chosen[0], found[0])


def find_mistake(name: str) -> TrainingMistake:
    """The mistake of that name. Raises `InputError` if there is none."""
    if name not in TRAINING_MISTAKES:
        close = difflib.get_close_matches(name, TRAINING_MISTAKES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(
            f"break: there is no mistake of learning called {name!r}.{hint} `minigpt break list --train` "
            "shows them."
        )
    return TRAINING_MISTAKES[name]


def as_document(mistake: TrainingMistake, found: Symptom) -> dict[str, object]:
    """A mistake and what it did, for programs."""
    about = {
        "name": mistake.name,
        "does": mistake.does,
        "because": mistake.because,
        "changes": mistake.changes,
    }
    return about | asdict(found)


def show_list(json: bool) -> None:
    """All mistakes of learning, with what each does."""
    mistakes = list(TRAINING_MISTAKES.values())
    if json:
        print_json([{"name": m.name, "does": m.does, "because": m.because} for m in mistakes])
        return
    names = Column("mistake", [mistake.name for mistake in mistakes], style="bold")
    print_table(console(), [names, Column("what is done", [m.does for m in mistakes], flexible="wrap")])


def show_all(mistakes: list[TrainingMistake], found: list[Symptom]) -> None:
    """A row for each."""
    out = console()
    out.print(
        f"A small model learns to write a few words. Done right, its loss is {found[0].right[-1]:.3f} after "
        f"{len(found[0].right)} steps. For each mistake: the gradient that is most wrong at first, and the "
        "last loss.\n"
    )
    most = [max(each.differences, key=lambda name: each.differences[name]) for each in found]
    shares = [each.differences[name] for each, name in zip(found, most, strict=True)]
    columns = [
        Column("mistake", [mistake.name for mistake in mistakes], style="bold"),
        Column("wrong by", [f"{share:.0%}" if share > 1e-4 else "" for share in shares], right=True),
        Column("of", [name if share > 1e-4 else "" for name, share in zip(most, shares, strict=True)]),
        Column("loss", [f"{each.wrong[-1]:.3f}" for each in found], right=True),
    ]
    print_table(out, columns)


def show_one(mistake: TrainingMistake, found: Symptom) -> None:
    """The mistake, the reason, the gradients that are wrong, and the losses side by side."""
    out = console()
    out.width = min(out.width, WIDEST)
    out.print(f"{mistake.name}: {mistake.does}", style="bold")
    out.print(f"{mistake.because}\n")
    wrong = {name: share for name, share in found.differences.items() if share > 1e-4}
    if wrong:
        ordered = sorted(wrong, key=lambda name: -wrong[name])[:5]
        out.print("At the first step these gradients are most wrong, by a share of the right one's length:")
        shares = Column("wrong by", [f"{wrong[name]:.0%}" for name in ordered], right=True)
        print_table(out, [Column("parameter", ordered, style="bold"), shares])
    else:
        out.print("The gradients are right; what is done with them is not.")
    out.print("\nA small model learns to write a few words. Its loss, done right and with the mistake:")
    columns = [
        Column("step", [str(step) for step in STEPS], right=True),
        Column("right", [f"{found.right[step - 1]:.3f}" for step in STEPS], right=True),
        Column("wrong", [f"{found.wrong[step - 1]:.3f}" for step in STEPS], right=True),
    ]
    print_table(out, columns)
    out.print(f"\nMade by {MADE_IN[mistake.changes]} (minigpt/inspection/backward_gallery.py).", style="dim")
