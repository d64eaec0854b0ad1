"""What a GPT-2 is made of: the numbers that define one, and the arrays that training finds.

The architecture is written down once, in `build`: which arrays there are, how each is called in the official
checkpoint, and which shape it has. Loading, random initialisation, saving and gradients all follow it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from .checks import check_class, check_config, checked_classes
from .errors import CheckpointError, InputError, brief
from .ranges import check_range

Shape = tuple[int, ...]
Leaf = Callable[[str, Shape], np.ndarray]  # an array, by its name in the checkpoint and its shape

# ------------------------------------------------------------------------------------------- the numbers


@dataclass(frozen=True)
class Config:
    """The numbers that define a GPT-2, with the names and defaults of `transformers.GPT2Config`."""

    vocab_size: int = 50257  # tokens the model knows: 256 bytes + 50,000 merges + <|endoftext|>
    n_positions: int = 1024  # longest context, in tokens
    n_embd: int = 768  # length of a token's vector: the width of the residual stream
    n_layer: int = 12  # blocks
    n_head: int = 12  # attention heads per block
    n_inner: int | None = None  # width inside the MLP; None is 4 * n_embd
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True  # the LM head is the token embedding itself

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def head_dim(self) -> int:
        """Length of one head's query, key and value vectors."""
        return self.n_embd // self.n_head

    @property
    def mlp_width(self) -> int:
        """Number of hidden units in each MLP."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    def attention_scale(self, layer: int) -> float:
        """The factor on query-key products, whose spread would grow with the root of `head_dim` otherwise."""
        scale = self.head_dim**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


# -------------------------------------------------------------------------------------------- the arrays
# jaxtyping checks these shapes in the test suite. A shape of one dimension begins with a space, because
# linters would take a lone word in quotes for the name of a type.


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """A learnt gain and offset for each of the vector's numbers."""

    weight: Float[np.ndarray, " n_embd"]
    bias: Float[np.ndarray, " n_embd"]


@dataclass(frozen=True, eq=False)
class Linear:
    """x W + b, which the checkpoint calls Conv1D: a convolution over one token at a time is just that."""

    weight: Float[np.ndarray, "n_in n_out"]  # (in, out) as TensorFlow had it; torch's own is (out, in)
    bias: Float[np.ndarray, " n_out"]


@dataclass(frozen=True, eq=False)
class Attention:
    """The two linear maps around the mixing of tokens."""

    c_attn: Linear  # n_embd -> 3 * n_embd: queries, keys and values side by side
    c_proj: Linear  # n_embd -> n_embd: the heads' answers, back into the residual stream


@dataclass(frozen=True, eq=False)
class MLP:
    """The two linear maps around the activation."""

    c_fc: Linear  # n_embd -> mlp_width
    c_proj: Linear  # mlp_width -> n_embd


@dataclass(frozen=True, eq=False)
class Block:
    """One of the `n_layer` equal parts."""

    ln_1: LayerNorm
    attn: Attention
    ln_2: LayerNorm
    mlp: MLP


@dataclass(frozen=True, eq=False)
class Parameters:
    """Everything that training finds. The arrays share one dtype, and the arithmetic follows it."""

    wte: Float[np.ndarray, "vocab n_embd"]  # word token embedding: one row per token
    wpe: Float[np.ndarray, "n_positions n_embd"]  # word position embedding: one row per position
    h: tuple[Any, ...]  # the hidden layers: a `Block` each, or what another block owns
    ln_f: LayerNorm  # the final layer norm
    lm_head: Float[np.ndarray, "vocab n_embd"]  # `wte` itself, if the config ties them

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Freeze what `copy.deepcopy` or `pickle` made: NumPy's own copies can be written to."""
        self.__dict__.update(state)
        transform(self, lambda _name, array: read_only(array))


# -------------------------------------------------------------------------- the architecture, and its walks


def layer_norm_parameters(name: str, n_embd: int, leaf: Leaf) -> LayerNorm:
    """A layer norm's two arrays."""
    return LayerNorm(leaf(f"{name}.weight", (n_embd,)), leaf(f"{name}.bias", (n_embd,)))


def linear_parameters(name: str, n_in: int, n_out: int, leaf: Leaf) -> Linear:
    """A linear map's two arrays."""
    return Linear(leaf(f"{name}.weight", (n_in, n_out)), leaf(f"{name}.bias", (n_out,)))


def block_parameters(name: str, config: Config, leaf: Leaf) -> Block:
    """The twelve arrays of GPT-2's block; another block may own others."""
    n_embd, width = config.n_embd, config.mlp_width
    return Block(
        ln_1=layer_norm_parameters(f"{name}.ln_1", n_embd, leaf),
        attn=Attention(
            c_attn=linear_parameters(f"{name}.attn.c_attn", n_embd, 3 * n_embd, leaf),
            c_proj=linear_parameters(f"{name}.attn.c_proj", n_embd, n_embd, leaf),
        ),
        ln_2=layer_norm_parameters(f"{name}.ln_2", n_embd, leaf),
        mlp=MLP(
            c_fc=linear_parameters(f"{name}.mlp.c_fc", n_embd, width, leaf),
            c_proj=linear_parameters(f"{name}.mlp.c_proj", width, n_embd, leaf),
        ),
    )


BlockParameters = Callable[[str, Config, Leaf], Any]


def build(config: Config, leaf: Leaf, block: BlockParameters = block_parameters) -> Parameters:
    """The parameters of a GPT-2 with this config, of which `leaf(name, shape)` gives each array."""
    wte = leaf("wte.weight", (config.vocab_size, config.n_embd))
    return Parameters(
        wte=wte,
        wpe=leaf("wpe.weight", (config.n_positions, config.n_embd)),
        h=tuple(block(f"h.{layer}", config, leaf) for layer in range(config.n_layer)),
        ln_f=layer_norm_parameters("ln_f", config.n_embd, leaf),
        lm_head=wte if config.tie_word_embeddings else leaf("lm_head.weight", wte.shape),
    )


def parameter_shapes(config: Config, block: BlockParameters = block_parameters) -> dict[str, Shape]:
    """The shape of each parameter, by checkpoint name."""
    shapes: dict[str, Shape] = {}

    def note(name: str, shape: Shape) -> np.ndarray:
        shapes[name] = shape
        return np.broadcast_to(np.float32(0), shape)  # an array of that shape which takes no memory

    build(config, note, block)
    return shapes


def transform(parameters: Parameters, change: Callable[[str, np.ndarray], np.ndarray]) -> Parameters:
    """The same parameters with `change(name, array)` in the place of each array; a tied head stays tied."""

    def walk(name: str, part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return change(name, part)
        values = {each.name: walk(f"{name}.{each.name}", getattr(part, each.name)) for each in fields(part)}
        return type(part)(**values)

    wte = change("wte.weight", parameters.wte)
    return Parameters(
        wte=wte,
        wpe=change("wpe.weight", parameters.wpe),
        h=tuple(walk(f"h.{layer}", block) for layer, block in enumerate(parameters.h)),
        ln_f=walk("ln_f", parameters.ln_f),
        lm_head=wte if parameters.lm_head is parameters.wte else change("lm_head.weight", parameters.lm_head),
    )


def arrays_by_name(parameters: Parameters) -> dict[str, np.ndarray]:
    """The inverse of `build`: every array by its checkpoint name; a tied head is not listed twice."""
    arrays: dict[str, np.ndarray] = {}
    transform(parameters, arrays.setdefault)
    return arrays


# ----------------------------------------------------------------------------------- where arrays come from


@checked_classes
def initial_values(config: Config, seed: int) -> Leaf:
    """GPT-2's initialisation (Radford et al. 2019, section 2.3): normal numbers, of standard deviation 0.02.

    The maps that write into the residual stream begin smaller, by the root of how many there are, so that
    their sum does not grow with the depth. Offsets are 0 and gains 1: at first a layer norm only normalises.
    """
    check_range("seed", seed)
    rng = np.random.default_rng(seed)

    def draw(name: str, shape: Shape) -> np.ndarray:
        if len(shape) == 1:
            value = np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
        else:
            deviation = 0.02 / (2 * config.n_layer) ** 0.5 if name.endswith("c_proj.weight") else 0.02
            value = rng.standard_normal(shape, np.float32) * np.float32(deviation)
        return read_only(value)

    return draw


MASKS = re.compile(r"h\.[0-9]+\.attn\.(bias|masked_bias)")  # old files keep the causal mask as a tensor


@checked_classes
def copies(config: Config, arrays: Mapping[str, ArrayLike]) -> Leaf:
    """Read-only copies of arrays that stand under their checkpoint names, with `transformer.` or without.

    Raises `CheckpointError` for an array that is missing, superfluous or of another shape.
    """
    if not isinstance(arrays, Mapping):
        raise InputError(f"arrays: found {type(arrays).__name__}; expected arrays by their checkpoint names.")
    for name in arrays:
        check_class("arrays", name, (str,))
    given = {name.removeprefix("transformer."): numbers_of(name, array) for name, array in arrays.items()}
    expected = parameter_shapes(config)
    check_arrays(given, expected)
    dtype = np.float64 if any(given[name].dtype == np.float64 for name in expected) else np.float32
    return lambda name, _shape: read_only(np.array(given[name], dtype, order="C"))


def numbers_of(name: str, values: ArrayLike) -> np.ndarray:
    """The values as an array. Raises `CheckpointError` for what is none of real numbers."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # ragged rows, or a tensor that NumPy cannot read
        array = np.asarray(None)
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        raise CheckpointError(f"arrays: {brief(name)} holds no real numbers; give NumPy arrays of floats.")
    return array


def check_arrays(given: dict[str, np.ndarray], expected: dict[str, Shape]) -> None:
    """Raise `CheckpointError` unless these are the arrays that the config asks for, and no others."""
    for name, shape in expected.items():
        if name not in given:
            raise CheckpointError(f"arrays: {name} is missing, which the config asks for.")
        found = given[name].shape
        if found != shape:
            raise CheckpointError(f"arrays: {name} has shape {found}; the config asks for {shape}.")
    for name in given.keys() - expected.keys():
        # A state dict lists a tied head a second time.
        tied = name == "lm_head.weight" and np.array_equal(given[name], given["wte.weight"])
        if not tied and not MASKS.fullmatch(name):
            raise CheckpointError(f"arrays: {brief(name)} has no place in a GPT-2 of this config.")


def read_only(array: np.ndarray) -> np.ndarray:
    """The array, which nobody can write to any more: a model may be shared between threads."""
    array.setflags(write=False)
    return array
