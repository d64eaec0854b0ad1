"""Learning: data, losses, the optimizer, the loop that runs them, and what a run keeps on disk.

    corpus = read_corpus(["shakespeare.txt"])
    tokenizer = Tokenizer.train(corpus.training, vocab_size=512)
    model = GPT2.random(Config(vocab_size=512, n_layer=4, n_head=4, n_embd=128, n_positions=64))
    run = train(model, tokenizer, corpus, "my-model", TrainingSettings(minutes=3))

- `data`: files -> texts -> tokens -> windows
- `losses`, `step`: a batch and its loss -> gradients, by several threads
- `optimizer`, `flat`: gradients -> changes of the parameters, which lie in one buffer
- `pairs`, `preferences`: two answers to a prompt -> losses that prefer one (ORPO, DPO); `prefer`: a run with
  them, `before_after`: what it has changed; `pushes`: how hard one pair pushes each token
- `loop`, `settings`: the run; `evaluation`, `curve`: how it went; `state`: what it keeps
"""

from .data import Corpus, read_corpus, split_tails
from .loop import Reporter, Run, resume, train
from .settings import Plan, TrainingSettings

__all__ = [
    "Corpus",
    "Plan",
    "Reporter",
    "Run",
    "TrainingSettings",
    "read_corpus",
    "resume",
    "split_tails",
    "train",
]
