"""Small random changes of a function: constants, signs, axes, names, and the order of things."""

import ast
import copy
import functools
import inspect
import random
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

LINES = 5_000  # that a mutant with a loop may run; a list may grow while a loop walks through it

SWAPS = {
    "max": "min", "min": "max", "mean": "sum", "sum": "mean", "tril": "triu", "sqrt": "square", "exp": "exp2",
    "tanh": "sin", "argmax": "argmin", "var": "std", "log": "log2", "ones": "zeros", "expm1": "exp",
    "take_along_axis": "put_along_axis", "logaddexp": "maximum", "append": "extend", "cumsum": "cumprod",
}  # fmt: skip
OPERATORS: dict[type, list[Any]] = {
    ast.Add: [ast.Sub(), ast.Mult()],
    ast.Sub: [ast.Add()],
    ast.Mult: [ast.Div(), ast.Add()],
    ast.Div: [ast.Mult(), ast.Sub()],
    ast.Pow: [ast.Mult()],
    ast.MatMult: [ast.Mult()],
    ast.Lt: [ast.LtE(), ast.Gt()],
    ast.LtE: [ast.Lt(), ast.GtE()],
    ast.Gt: [ast.GtE(), ast.Lt()],
    ast.Eq: [ast.NotEq(), ast.GtE()],
    ast.NotIn: [ast.In()],
    ast.In: [ast.NotIn()],
}


def tree_of(function: Callable[..., Any]) -> ast.FunctionDef:
    """The function as a tree, without its docstring."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    found = ast.parse(source).body[0]
    assert isinstance(found, ast.FunctionDef)
    found.body = found.body[1:]
    return found


def changes_of(node: ast.AST, names: list[str]) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield from (ast.Constant(v) for v in (value + 1, value - 1, -value, 2 * value, value / 2, 0))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right):
            yield from (left, right, ast.BinOp(right, op, left))
            yield from (ast.BinOp(left, other, right) for other in OPERATORS.get(type(op), []))
            yield ast.BinOp(ast.UnaryOp(ast.USub(), left), op, right)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield ast.Compare(right, [op], [left])
            yield from (ast.Compare(left, [other], [right]) for other in OPERATORS.get(type(op), []))
        case ast.Attribute(attr=attr) if attr in SWAPS:
            yield ast.Attribute(node.value, SWAPS[attr], node.ctx)
        case ast.Call(args=[first, second, *rest]):
            yield ast.Call(node.func, [second, first, *rest], node.keywords)
        case ast.Call(args=[first]):
            yield first
        case ast.Call(func=ast.Attribute(value=inner)):
            yield inner
        case ast.Name(ctx=ast.Load()) if node.id in names:
            yield from (ast.Name(name, ast.Load()) for name in names if name != node.id)
        case ast.Tuple(elts=[first, second, *rest]) | ast.List(elts=[first, second, *rest]):
            yield type(node)([second, first, *rest], node.ctx)
        case ast.Slice(lower=lower, upper=upper):
            yield ast.Slice(upper, lower)


def all_changes(tree: ast.FunctionDef) -> list[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every place in the tree, with what may stand there instead."""
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names = [arg.arg for arg in tree.args.args] + sorted(stored)
    found = []
    for statement in tree.body:
        for parent in ast.walk(statement):
            for field, value in ast.iter_fields(parent):
                if field in ("annotation", "returns", "ctx"):
                    continue
                places = enumerate(value) if isinstance(value, list) else [(None, value)]
                for index, child in places:
                    if isinstance(child, ast.AST):
                        found += [(parent, field, index, new) for new in changes_of(child, names)]
    return found


def mutants(function: Callable[..., Any], count: int, seed: int) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Different functions, each changed in one place or two, with their source."""
    rng, seen = random.Random(seed), {ast.unparse(tree_of(function))}
    plain = inspect.unwrap(function)
    for _ in range(20 * count):
        tree = tree_of(function)
        for _ in range(rng.choice((1, 1, 2))):
            parent, field, index, new = rng.choice(all_changes(tree))
            if index is None:
                setattr(parent, field, copy.deepcopy(new))
            else:
                getattr(parent, field)[index] = copy.deepcopy(new)
        source = ast.unparse(ast.fix_missing_locations(tree))
        if source in seen:
            continue
        seen.add(source)
        namespace = dict(plain.__globals__)
        try:
            exec(compile(source, "<mutant>", "exec"), namespace)
        except (SyntaxError, ValueError):  # a change that is no Python, as a constant that is assigned to
            continue
        mutant = namespace[plain.__name__]
        loops = any(isinstance(node, ast.For) and isinstance(node.iter, ast.Name) for node in ast.walk(tree))
        yield source, limited(mutant) if loops else mutant
        if len(seen) > count:
            return


def limited(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises when it has run too many lines."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        lines = 0

        def watch(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal lines
            lines += event == "line"
            if lines > LINES:
                raise TimeoutError
            return watch if frame.f_code.co_filename == "<mutant>" else None

        before = sys.gettrace()
        sys.settrace(watch)
        try:
            return function(*args)
        finally:
            sys.settrace(before)

    return call
