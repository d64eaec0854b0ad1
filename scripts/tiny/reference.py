"""Write down what `transformers` on torch computes for "I love", for `minigpt verify` to compare with.

    python -m scripts.tiny.reference

It has to be run again whenever `weights/tiny` changes; the file knows which weights it was made on.
Needs torch and transformers (the extra `reference`) and pytest.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
import transformers

from minigpt.checkpoints.load import load_model
from minigpt.inspection.intervention import hook_names
from minigpt.inspection.ledger import Reference, largest_difference, sample
from minigpt.tokenizer import Tokenizer
from tests.parity.reference import Tensors, load_reference, reference_tensors

ROOT = Path(__file__).parents[2]
DATA_FILE = ROOT / "minigpt" / "data" / "reference.json"
PROMPT = "I love"


def computed(folder: Path, ids: list[int], dtype: str) -> Tensors:
    """Every intermediate tensor in this precision, in minigpt's order; masked scores are -inf as there."""
    tensors = reference_tensors(load_reference(folder, dtype), np.array(ids))
    tensors = {name: np.where(tensor < -1e30, -np.inf, tensor) for name, tensor in tensors.items()}
    return {name: tensors[name] for name in hook_names(load_model(folder))}


def make_reference(folder: Path) -> Reference:
    """Run torch on a checkpoint, in float64 and in float32."""
    ids = Tokenizer().encode(PROMPT)
    exact, single = computed(folder, ids, "float64"), computed(folder, ids, "float32")
    return Reference(
        prompt=PROMPT,
        ids=ids,
        sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        versions={"torch": torch.__version__, "transformers": transformers.__version__},
        shapes={name: tensor.shape for name, tensor in exact.items()},
        largest={name: float(np.abs(tensor[np.isfinite(tensor)]).max()) for name, tensor in exact.items()},
        torch_differences={
            name: largest_difference(single[name].ravel().astype(np.float64), tensor.ravel())
            for name, tensor in exact.items()
        },
        samples={name: sample(tensor) for name, tensor in exact.items()},
        last_logits=single["logits"][-1],
    )


def main() -> None:
    """Write it into the data file of the package, in the place of the old one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "weights" / "tiny", help="a checkpoint's folder")
    args = parser.parse_args()
    reference = make_reference(args.model)
    reference.save(DATA_FILE)
    print(f"{DATA_FILE}: {len(reference.shapes)} tensors, {DATA_FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
