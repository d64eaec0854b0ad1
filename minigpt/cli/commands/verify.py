"""`minigpt verify`: this machine's numbers against torch's, and against published ones."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from ...checkpoints.find import check_official, find, official_here
from ...checkpoints.load import load, load_model
from ...errors import InputError, notice
from ...inspection.facts import FactResult, check_fact, official_facts
from ...inspection.ledger import Reference, Row, check_file, compare, environment, load_reference
from ..document import print_json
from ..options import ModelOptions as Options
from ..options import add_model_options
from ..tables import Column, console, print_table


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which models to check."""
    parser.epilog = (
        "Without --model: the bundled model against tensors that torch computed, and every official model\n"
        "that is on this machine against published figures. With --model: that official model's figures.\n\n"
        "example: minigpt verify --json > report.json"
    )
    add_model_options(parser)


def run(options: Options) -> int:
    """Print the ledger; the exit status is 0 if everything agrees."""
    reference, rows = (None, []) if options.model not in (None, "tiny") else check_reference()
    results, skipped = check_facts(options)
    passed = all(row.passed for row in rows) and all(result.passed for result in results)
    if options.json:
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


def check_reference() -> tuple[Reference, list[Row]]:
    """The bundled model against the stored tensors."""
    reference, source = load_reference(), find("tiny", offline=True)
    check_file(reference, source.path)
    return reference, compare(load_model(source.path), reference)


def check_facts(options: Options) -> tuple[list[FactResult], list[str]]:
    """The published figures of the models that are here, or that `--model` names; and which are not here."""
    names = sorted({fact.model for fact in official_facts()})
    if options.model == "tiny":
        return [], []
    if options.model is not None and options.model not in names:
        raise InputError(
            f"verify: there are no published figures for {options.model}; there are some for "
            f"{', '.join(names)}, and stored tensors for tiny."
        )
    results, skipped = [], []
    for name in names if options.model is None else [options.model]:
        source = find(name, offline=options.offline, notify=notice) if options.model else official_here(name)
        if source is None:
            skipped.append(name)
            continue
        check_official(source.path, name)
        model, tokenizer = load(source)
        results += [check_fact(fact, model, tokenizer) for fact in official_facts(name)]
    return results, skipped


def as_document(
    reference: Reference | None,
    rows: Sequence[Row],
    results: Sequence[FactResult],
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
    out: Console,
    reference: Reference,
    rows: Sequence[Row],
) -> None:
    """One row per tensor."""
    versions = ", ".join(f"{name} {version}" for name, version in reference.versions.items())
    out.print(
        f'Every tensor of "{reference.prompt}" on weights/tiny, against {versions} in float64. The largest '
        "difference in float64, where only another formula would show, and in float32; beside it what torch "
        "in float32 differs by.\n"
    )
    numbers: dict[str, list[float | None]] = {
        "float64": [row.float64 for row in rows],
        "float32": [row.float32 for row in rows],
        "tolerance": [row.float32_tolerance for row in rows],
        "torch's": [row.torch_float32 for row in rows],
    }
    columns = [
        Column("tensor", [row.name for row in rows]),
        Column("shape", ["x".join(map(str, row.shape)) for row in rows]),
        *(
            Column(name, [scientific(value) for value in values], right=True)
            for name, values in numbers.items()
        ),
        Column("", [verdict(row.passed) for row in rows]),
    ]
    print_table(out, columns)
    n_passed = sum(row.passed for row in rows)
    out.print(f"\n{n_passed} of {len(rows)} tensors equal torch's within the tolerance.\n")


def show_facts(out: Console, results: Sequence[FactResult]) -> None:
    """One row per published figure, with where it was published."""
    out.print("Figures that others published about the official weights:\n")
    columns = [
        Column("model", [found.fact.model for found in results]),
        Column("figure", [found.fact.title for found in results], flexible="wrap"),
        Column("difference", [scientific(found.difference) for found in results], right=True),
        Column("tolerance", [f"{found.fact.tolerance:g}" for found in results], right=True),
        Column("", [verdict(found.passed) for found in results]),
    ]
    print_table(out, columns)
    n_passed = sum(found.passed for found in results)
    out.print(f"\n{n_passed} of {len(results)} agree; --json gives each one's source.\n")


def scientific(number: float | None) -> str:
    """A difference; nothing where torch was not measured."""
    return "" if number is None else f"{number:.1e}"


def verdict(passed: bool) -> str:
    """What a row says at its end."""
    return "equal" if passed else "DIFFERENT"
