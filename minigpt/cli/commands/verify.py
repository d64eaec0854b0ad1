"""`minigpt verify`: this machine's numbers against torch's, and against published ones."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...errors import InputError, notice
from ..terminal import console, print_rows
from . import add_model_arguments, print_json

if TYPE_CHECKING:
    import rich.console

    import minigpt.inspection.facts
    import minigpt.inspection.ledger

HELP = "compare this machine's numbers with torch's, tensor by tensor, and with published ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which models to check."""
    parser.epilog = (
        "Without --model: the bundled model against tensors that torch computed, and every official model\n"
        "that is on this machine against published figures. With --model: that official model's figures.\n\n"
        "example: minigpt verify --json > report.json"
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the ledger; the exit status is 0 if everything agrees."""
    from ...inspection.ledger import environment

    reference, rows = (None, []) if args.model not in (None, "tiny") else check_reference()
    results, skipped = check_facts(args)
    passed = all(row.passed for row in rows) and all(result.passed for result in results)
    if args.json:
        document = as_document(reference, rows, results, skipped) | {
            "environment": environment(),
            "passed": passed,
        }
        print_json(document)
        return 0 if passed else 1
    out = console()
    if reference is not None:
        show_rows(out, reference, rows)
    if results:
        show_facts(out, results)
    if skipped:
        names = ", ".join(skipped)
        out.print(
            f"Not checked, as the weights are not here (minigpt download NAME): {names}.\n", style="dim"
        )
    out.print(", ".join(f"{name} {value}" for name, value in environment().items()), style="dim")
    failures = [row.name for row in rows if not row.passed] + [r.fact.id for r in results if not r.passed]
    out.print("Everything agrees." if passed else f"DIFFERENT: {', '.join(failures)}", style="bold")
    return 0 if passed else 1


def check_reference() -> "tuple[minigpt.inspection.ledger.Reference, list[minigpt.inspection.ledger.Row]]":
    """The bundled model against the stored tensors."""
    from ...checkpoints.find import find
    from ...checkpoints.load import load_model
    from ...inspection.ledger import check_file, compare, load_reference

    reference, source = load_reference(), find("tiny", offline=True)
    check_file(reference, source.path)
    return reference, compare(load_model(source.path), reference)


def check_facts(args: argparse.Namespace) -> "tuple[list[minigpt.inspection.facts.FactResult], list[str]]":
    """The published figures of the models that are here, or that `--model` names; and which are not here."""
    from ...checkpoints.find import check_official, find, official_here
    from ...checkpoints.load import load
    from ...inspection import check_fact, official_facts

    names = sorted({fact.model for fact in official_facts()})
    if args.model == "tiny":
        return [], []
    if args.model is not None and args.model not in names:
        raise InputError(
            f"verify: there are no published figures for {args.model}; there are some for "
            f"{', '.join(names)}, and stored tensors for tiny."
        )
    results, skipped = [], []
    for name in names if args.model is None else [args.model]:
        source = find(name, offline=args.offline, notify=notice) if args.model else official_here(name)
        if source is None:
            skipped.append(name)
            continue
        check_official(source.path, name)
        model, tokenizer = load(source)
        results += [check_fact(fact, model, tokenizer) for fact in official_facts(name)]
    return results, skipped


def as_document(
    reference: "minigpt.inspection.ledger.Reference | None",
    rows: "list[minigpt.inspection.ledger.Row]",
    results: "list[minigpt.inspection.facts.FactResult]",
    skipped: list[str],
) -> dict[str, object]:
    """A report that anyone can paste: no path, nothing about the person."""
    about = None if reference is None else {
        "prompt": reference.prompt, "ids": reference.ids, "sha256": reference.sha256, **reference.versions
    }  # fmt: skip
    facts = [
        {
            "id": result.fact.id,
            "model": result.fact.model,
            "title": result.fact.title,
            "difference": finite(result.difference),
            "tolerance": result.fact.tolerance,
            "passed": result.passed,
            "source": result.fact.source,
        }
        for result in results
    ]
    tensors = [{**asdict(row), "float32": finite(row.float32), "passed": row.passed} for row in rows]
    for tensor in tensors:
        tensor["float64"] = finite(tensor["float64"])
    return {"reference": about, "tensors": tensors, "facts": facts, "skipped": skipped}


def finite(number: float | None) -> float | None:
    """The number; None where JSON has none (an infinite difference: another shape, or other tokens)."""
    return number if number is not None and abs(number) < float("inf") else None


# ------------------------------------------------------------------------------------- for the terminal


def show_rows(
    out: "rich.console.Console",
    reference: "minigpt.inspection.ledger.Reference",
    rows: "list[minigpt.inspection.ledger.Row]",
) -> None:
    """One row per tensor."""
    versions = ", ".join(f"{name} {version}" for name, version in reference.versions.items())
    out.print(
        f'Every tensor of "{reference.prompt}" on weights/tiny, against {versions} in float64. The largest '
        "difference in float64, where only another formula would show, and in float32; beside it what torch "
        "in float32 differs by.\n"
    )
    columns = ("float64", "float32", "tolerance", "torch's")
    lines = []
    for row in rows:
        numbers = (row.float64, row.float32, row.float32_tolerance, row.torch_float32)
        cells = ("" if number is None else f"{number:.1e}" for number in numbers)
        verdict = "equal" if row.passed else "DIFFERENT"
        lines.append((row.name, "x".join(map(str, row.shape)), *cells, verdict))
    print_rows(out, ("tensor", "shape", *columns, ""), lines, right=columns)
    n_passed = sum(row.passed for row in rows)
    out.print(f"\n{n_passed} of {len(rows)} tensors equal torch's within the tolerance.\n")


def show_facts(out: "rich.console.Console", results: "list[minigpt.inspection.facts.FactResult]") -> None:
    """One row per published figure, with where it was published."""
    out.print("Figures that others published about the official weights:\n")
    columns, lines = ("difference", "tolerance"), []
    for found in results:
        verdict = "equal" if found.passed else "DIFFERENT"
        numbers = (f"{found.difference:.1e}", f"{found.fact.tolerance:g}")
        lines.append((found.fact.model, found.fact.title, *numbers, verdict))
    print_rows(out, ("model", "figure", *columns, ""), lines, right=columns, wraps="figure")
    n_passed = sum(found.passed for found in results)
    out.print(f"\n{n_passed} of {len(results)} agree; --json gives each one's source.\n")
