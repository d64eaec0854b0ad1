"""The prompts of the parity suite: the mission's own, texts of every kind, and lengths up to the context."""

import numpy as np

PROMPTS: dict[str, list[int]] = {
    "I love": [40, 1842],
    "I hate": [40, 5465],
    "<|endoftext|>": [50256],
    "first id": [0],
    "The capital of France is": [464, 3139, 286, 4881, 318],
    "Hello, my name is": [15496, 11, 616, 1438, 318],
    "one two three four": [3198, 734, 1115, 1440],
    "Café déjà vu ☕": [34, 1878, 2634, 39073, 73, 24247, 410, 84, 34719, 243],
    "  indented text": [220, 773, 4714, 2420],
    "zeros": [10535, 830, 8269, 405, 25645],
    "one token, repeated": [262] * 40,
    "end of text inside": [464, 3290, 3332, 2159, 0, 1, 50256, 464],
}

# Ids drawn evenly from the vocabulary, at lengths around the powers of two and up to the full context.
for _length in (3, 7, 16, 31, 64, 100, 127, 255, 400, 512, 1023, 1024):
    PROMPTS[f"{_length} random ids"] = np.random.default_rng(_length).integers(0, 50257, _length).tolist()
