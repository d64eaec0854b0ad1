"""The exercises, in the order in which they build on each other."""

from ..exercise import Exercise
from . import layers, learning, text, wiring

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        text.MERGE,
        text.SOFTMAX,
        text.TEMPERATURE,
        text.TOP_P,
        layers.EMBED,
        layers.LAYER_NORM,
        layers.GELU_NEW,
        layers.CAUSAL_MASK,
        layers.ATTENTION_HEAD,
        layers.SPLIT_HEADS,
        layers.ATTENTION,
        layers.MLP,
        wiring.BLOCK,
        wiring.GPT2,
        wiring.GREEDY,
        wiring.CACHE_STEP,
        learning.CROSS_ENTROPY,
        learning.EMBED_BACKWARD,
        learning.SOFTMAX_BACKWARD,
        learning.LAYER_NORM_BACKWARD,
        learning.ATTENTION_BACKWARD,
        learning.ADAMW_STEP,
        learning.ORPO_LOSS,
    )
}
