"""From the tokenizer files of a checkpoint to its tokenizer, and back.

Token ids mean nothing by themselves: a checkpoint that is fed the ids of another tokenizer answers fluent
nonsense. So every setting that changes ids is honoured here or refused by its name, and none is passed over.
What loads is byte-level BPE: `tokenizer.json` as the tokenizers library writes it, or `vocab.json` and
`merges.txt`. docs/checkpoints.md has the table.

Formats: huggingface/tokenizers, `Tokenizer.save`; `GPT2Tokenizer.save_pretrained` of transformers.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import regex

from ..errors import CheckpointError
from ..tokenizer import (
    END_OF_TEXT_NAME,
    GPT2_PATTERN,
    LARGEST_ID,
    AddedToken,
    Pair,
    Tokenizer,
    byte_names,
    named_pair,
    named_token,
    token_name,
)
from .reading import parse_json, present, quote, read_bytes

LONGEST = 32 << 20  # bytes; GPT-2's tokenizer.json has 1.4 MB, or 3.6 MB as transformers 5 indents it
OWN_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
SETTINGS_FILES = ("special_tokens_map.json", "tokenizer_config.json")  # what the later says counts more
# Files that only other kinds of tokenizers have.
FOREIGN_FILES = {
    "vocab.txt": "WordPiece, as BERT's",
    "spiece.model": "SentencePiece",
    "tokenizer.model": "SentencePiece",
    "sentencepiece.bpe.model": "SentencePiece",
    "tiktoken.model": "another model's, in tiktoken's format",
}
# All that say which tokenizer it is.
TOKENIZER_FILES = (*OWN_FILES, *SETTINGS_FILES, "added_tokens.json", *FOREIGN_FILES)
GPT2_SIZE = 50257
WAY_OUT = "In Python, minigpt.load_model takes ids from the model's own tokenizer."


@dataclass(frozen=True)
class Vocabulary:
    """What the files say: names and ids, the merges in order, and how a text is cut before them."""

    file: Path  # which an error names
    vocab: dict[str, int]
    merges: list[Pair]
    added: dict[str, AddedToken]  # by their text
    pattern: str = GPT2_PATTERN
    whole_pieces: bool = False


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer in the folder of a checkpoint whose model knows `vocab_size` ids.

    Without files it is GPT-2's, if the model knows as many ids or more. Raises `CheckpointError` for a
    tokenizer that is no byte-level BPE, or that does to a text what is not done here.
    """
    if present(folder / "tokenizer.json"):
        read, file = read_tokenizer_json, folder / "tokenizer.json"
    elif present(folder / "vocab.json") or present(folder / "merges.txt"):
        read, file = read_vocab_and_merges, folder / "vocab.json"
    else:
        return gpt2_by_size(folder, vocab_size)
    with explained(file):
        settings = read_settings(folder)
        found = read(folder)
        check_settings(folder / "tokenizer_config.json", settings)
        found = replace(found, added=added_later(folder, settings) | found.added)
        check_ids(found)
        tokenizer = assemble(found, end_of_text(folder, found, settings))
    check_size(file, tokenizer, vocab_size)
    return tokenizer


def gpt2_by_size(folder: Path, vocab_size: int) -> Tokenizer:
    """GPT-2's own tokenizer, for a folder without one: nothing but the size tells which it was."""
    for name, kind in FOREIGN_FILES.items():
        if present(folder / name):
            refuse(folder / name, f"the tokenizer is {kind}")
    if vocab_size < GPT2_SIZE:
        raise CheckpointError(
            f"{folder}: another vocabulary: vocab_size is {vocab_size}, GPT-2's is {GPT2_SIZE}, and there is "
            f"neither tokenizer.json nor vocab.json with merges.txt. {WAY_OUT}"
        )
    with explained(folder / "tokenizer_config.json"):
        check_settings(folder / "tokenizer_config.json", read_settings(folder))
    return Tokenizer()


def refuse(file: Path, problem: str) -> NoReturn:
    """Raise the error for a tokenizer of another kind, or one that does more to a text than ours."""
    raise CheckpointError(f"{file}: {problem}; minigpt reads byte-level BPE, as GPT-2's. {WAY_OUT}")


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn what goes wrong with a file of another form into an error that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = quote(f"{type(error).__name__}: {error}")
        raise CheckpointError(f"{file}: not a tokenizer as Hugging Face writes it ({reason}).") from None


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file, or an empty one if there is no such file."""
    if not present(folder / name):
        return {}
    file = folder / name
    content = parse_json(read_bytes(file, LONGEST), file)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: found {quote(content)}; expected an object.")
    return content


# ---------------------------------------------------------------------------------------- tokenizer.json


def read_tokenizer_json(folder: Path) -> Vocabulary:
    """What `tokenizers.Tokenizer.save` wrote."""
    file, content = folder / "tokenizer.json", read_object(folder, "tokenizer.json")
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        refuse(file, f"its model is {quote(model['type'])}")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            refuse(file, f"its model has {name} {quote(model[name])}")
    check_normalizer(file, content.get("normalizer"))
    pattern = split_pattern(file, content.get("pre_tokenizer"))
    check_post_processor(file, content.get("post_processor"))
    tokens = [added_token(file, token["id"], token) for token in content.get("added_tokens") or ()]
    check_added_ids(file, model["vocab"], tokens)
    merges = [named_pair(merge if isinstance(merge, str) else " ".join(merge)) for merge in model["merges"]]
    added = {token.text: token for token in tokens}
    return Vocabulary(file, model["vocab"], merges, added, pattern, bool(model.get("ignore_merges")))


def check_normalizer(file: Path, step: Any) -> None:
    """Refuse what changes the text before it is split; a `Sequence` of nothing changes nothing."""
    if step is None:
        return
    if step["type"] != "Sequence":
        refuse(file, f"its normalizer {quote(step['type'])} changes the text")
    for each in step["normalizers"]:
        check_normalizer(file, each)


def check_post_processor(file: Path, step: Any) -> None:
    """Refuse what puts tokens before or behind a text; `ByteLevel` only moves offsets."""
    if step is None or step["type"] == "ByteLevel":
        return
    if step["type"] == "Sequence":
        for each in step["processors"]:
            check_post_processor(file, each)
    elif step["type"] == "TemplateProcessing":
        extra = [part["SpecialToken"]["id"] for part in step["single"] if "SpecialToken" in part]
        if extra:
            refuse(file, f"its post_processor adds {', '.join(map(quote, extra))} to every text")
    else:
        refuse(file, f"its post_processor is {quote(step['type'])}, which adds tokens to every text")


def split_pattern(file: Path, step: Any) -> str:
    """The pattern that cuts a text into pieces."""
    steps = [step] if step is None or step["type"] != "Sequence" else step["pretokenizers"]
    if not steps or steps[-1] is None or steps[-1]["type"] != "ByteLevel":
        kind = "nothing" if not steps or steps[-1] is None else quote(steps[-1]["type"])
        refuse(file, f"its pre_tokenizer is {kind} and not ByteLevel, so its tokens are of characters")
    *splits, last = steps
    if last.get("add_prefix_space", True):
        refuse(file, "its pre_tokenizer has add_prefix_space, which puts a space before every text")
    own = last.get("use_regex", True)
    if not splits:
        return GPT2_PATTERN if own else r"[\s\S]+"
    if len(splits) > 1 or splits[0]["type"] != "Split" or own:
        kinds = " + ".join(quote(each["type"]) for each in steps)
        refuse(
            file, f"its pre_tokenizer is {kinds}; one Split before a ByteLevel without regex is known here"
        )
    return covering_pattern(file, splits[0])


# What `regex` would read otherwise than Oniguruma, which reads patterns for the tokenizers library.
READ_OTHERWISE = regex.compile(r"&&|\[\[|\\[wWbBhHRXKGAzZ]|\(\?\w*[msx]|(?<![\[\\])\^|(?<!\\)\$")


def covering_pattern(file: Path, step: Any) -> str:
    """The pattern of a `Split`, so that its matches are all the pieces."""
    text = step["pattern"]
    pattern = text["Regex"] if "Regex" in text else regex.escape(text["String"])
    behavior, invert = step["behavior"], bool(step.get("invert"))
    if (behavior, invert) not in (("Isolated", False), ("Removed", True)):
        refuse(file, f"its Split is {quote(behavior)}, {'inverted' if invert else 'not inverted'}")
    if "Regex" in text and (found := READ_OTHERWISE.search(pattern)):
        refuse(file, f"its pattern {quote(pattern)} has {found[0]!r}, of which tokenizers has its own idea")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if regex.fullmatch(pattern, ""):
                refuse(file, f"its pattern {quote(pattern)} also matches no text at all")
    except (regex.error, FutureWarning) as error:
        refuse(file, f"its pattern {quote(pattern)} cannot be read ({error})")
    if behavior == "Removed" or pattern == GPT2_PATTERN:
        return str(pattern)
    return rf"(?:{pattern})|(?:(?!{pattern})[\s\S])+"  # what lies between the matches is a piece, too


# ------------------------------------------------------------------------------ vocab.json and merges.txt


def read_vocab_and_merges(folder: Path) -> Vocabulary:
    """What `GPT2Tokenizer.save_vocabulary` wrote."""
    for name in ("vocab.json", "merges.txt"):
        if not present(folder / name):
            raise CheckpointError(f"{folder / name}: is missing; vocab.json and merges.txt go together.")
    file = folder / "merges.txt"
    with explained(file):
        text = read_bytes(file, LONGEST).decode("utf-8").replace("\r\n", "\n")
        lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
        if any(line.endswith("</w>") for line in lines):
            refuse(file, "'</w>' ends the words in it: it is BPE of characters, as GPT-1's")
        merges = [named_pair(line) for line in lines]
    return Vocabulary(folder / "vocab.json", read_object(folder, "vocab.json"), merges, {})


# ---------------------------------------------------------------------------------------- what stands beside

CLASSES = ("GPT2Tokenizer", "PreTrainedTokenizer", "TokenizersBackend")


def read_settings(folder: Path) -> dict[str, Any]:
    """What `tokenizer_config.json` and older files of settings say."""
    return {key: value for name in SETTINGS_FILES for key, value in read_object(folder, name).items()}


def check_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Refuse what `tokenizer_config.json` would do to a text or its ids."""
    for name in ("add_prefix_space", "add_bos_token", "add_eos_token", "do_lower_case", "normalizer"):
        if settings.get(name):
            refuse(file, f"{name} is {quote(settings[name])}, which changes the ids of a text")
    kind = settings.get("tokenizer_class")
    if kind is not None and str(kind).removesuffix("Fast") not in CLASSES:
        refuse(file, f"tokenizer_class is {quote(kind)}")


def added_later(folder: Path, settings: Mapping[str, Any]) -> dict[str, AddedToken]:
    """The tokens that stand beside the vocabulary, in the files of several versions of transformers."""
    special = set(special_names(settings))
    tokens = [
        AddedToken(text, token_id, special=text in special, normalized=text not in special)
        for text, token_id in read_object(folder, "added_tokens.json").items()
    ]
    file = folder / "tokenizer_config.json"
    for token_id, token in (settings.get("added_tokens_decoder") or {}).items():
        tokens.append(added_token(file, int(token_id), token))
    return {token.text: token for token in tokens}


def special_names(settings: Mapping[str, Any]) -> Iterator[str]:
    """The texts of the tokens that have a part to play, such as `eos_token`."""
    for name, value in settings.items():
        if name.endswith(("_token", "special_tokens")):
            for token in value if isinstance(value, list) else [value]:
                yield str(token.get("content") if isinstance(token, dict) else token)


def added_token(file: Path, token_id: int, token: Mapping[str, Any]) -> AddedToken:
    """A token as both kinds of files describe it."""
    if token.get("single_word"):
        refuse(file, f"the added token {quote(token['content'])} is single_word, no part of a longer word")
    flags = {name: bool(token.get(name)) for name in ("special", "lstrip", "rstrip", "normalized")}
    return AddedToken(token["content"], token_id, **flags)


def end_of_text(folder: Path, found: Vocabulary, settings: Mapping[str, Any]) -> int | None:
    """The id that ends a text: of the tokenizer's `eos_token`, or else as `config.json` says."""
    ids = found.vocab | {token.text: token.id for token in found.added.values()}
    named = settings.get("eos_token")
    name = named.get("content") if isinstance(named, dict) else named
    if name in ids:
        return ids[name]
    of_config = read_object(folder, "config.json").get("eos_token_id")
    return of_config if of_config in ids.values() else ids.get(END_OF_TEXT_NAME)


# -------------------------------------------------------------------------- from the files to a tokenizer


def check_added_ids(file: Path, vocab: Mapping[str, int], tokens: list[AddedToken]) -> None:
    """Refuse ids that the tokenizers library does not give: it counts on, whatever the file says."""
    next_id = len(vocab)
    for token in tokens:
        expected = vocab.get(token.text, next_id)
        if token.id != expected:
            raise CheckpointError(
                f"{file}: the added token {quote(token.text)} has the id {quote(token.id)}, but tokenizers "
                f"would give it {expected}; which of them the model was trained with is not known."
            )
        next_id = max(next_id, token.id + 1)


def check_ids(found: Vocabulary) -> None:
    """Refuse ids that are no ids, or of which two tokens have the same."""
    ids = found.vocab | {token.text: token.id for token in found.added.values()}
    for name, token_id in ids.items():
        if type(token_id) is not int or not 0 <= token_id < LARGEST_ID:
            raise CheckpointError(
                f"{found.file}: {quote(name)} has the id {quote(token_id)}; it must be one."
            )
        if found.vocab.get(name, token_id) != token_id:
            raise CheckpointError(
                f"{found.file}: {quote(name)} has the ids {found.vocab[name]} and {token_id}."
            )
    if len(set(ids.values())) < len(ids):
        raise CheckpointError(f"{found.file}: two of its tokens have the same id.")


def assemble(found: Vocabulary, end: int | None) -> Tokenizer:
    """The tokenizer, if every byte has an id and every merge makes a token that has one."""
    alphabet = set(byte_names().values())
    if missing := alphabet - found.vocab.keys():
        refuse(found.file, f"{len(missing)} of the 256 bytes have no token in it")
    ids = {named_token(name): token_id for name, token_id in found.vocab.items() if alphabet.issuperset(name)}
    later = {left + right for left, right in found.merges}
    for left, right in found.merges:
        later.discard(left + right)
        for token in (left, right, left + right):
            if token in later:
                made = quote(token_name(left + right))
                raise CheckpointError(
                    f"{found.file}: the merge that makes {made} stands before that of its part."
                )
            if token not in ids:
                raise CheckpointError(
                    f"{found.file}: {quote(token_name(token))} has no id, but a merge names it."
                )
    added = [token for token in found.added.values() if token.text]
    return Tokenizer(
        found.merges, ids=ids, added_tokens=added, end_of_text=end, pattern=found.pattern,
        whole_pieces=found.whole_pieces,
    )  # fmt: skip


def check_size(file: Path, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Refuse a tokenizer that turns ordinary text into ids that the model does not have."""
    largest = max(tokenizer.ids[token] for token in tokenizer.tokens_made)
    if largest >= vocab_size:
        raise CheckpointError(
            f"{file}: another vocabulary: it has the id {largest}, and the model has {vocab_size} ids."
        )


# ------------------------------------------------------------------------------------------------- writing


def vocab_of(tokenizer: Tokenizer) -> dict[str, int]:
    """The id of every token, by the name that files give it and in the order of the ids."""
    names = {token_name(token): token_id for token, token_id in tokenizer.ids.items()}
    names |= {token.text: token.id for token in tokenizer.added_tokens}
    return dict(sorted(names.items(), key=lambda item: item[1]))


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, str]:
    """The files, by name, from which `transformers.AutoTokenizer` makes a tokenizer that gives the same ids.

    All say the same but for the split: `vocab.json` and `merges.txt` are always read with GPT-2's.
    """
    merges = [f"{token_name(left)} {token_name(right)}" for left, right in tokenizer.merges]
    added = [as_json(token) for token in sorted(tokenizer.added_tokens, key=lambda token: token.id)]
    end = next((t["content"] for t in added if t["id"] == tokenizer.end_of_text), None)
    files: dict[str, Any] = {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": pre_tokenizer(tokenizer.pattern),
            "post_processor": {"type": "ByteLevel", **BYTE_LEVEL, "trim_offsets": False},
            "decoder": {"type": "ByteLevel", **BYTE_LEVEL},
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                "ignore_merges": tokenizer.whole_pieces, "vocab": vocab_of(tokenizer), "merges": merges,
            },
        },
        "vocab.json": vocab_of(tokenizer),
        # This class takes tokenizer.json as it is. GPT2Tokenizer of transformers 5 puts its own split there.
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
        } | ({"bos_token": end, "eos_token": end, "unk_token": end} if end else {}),
    }  # fmt: skip
    texts = {name: json.dumps(content, ensure_ascii=False) + "\n" for name, content in files.items()}
    return texts | {"merges.txt": "\n".join(["#version: 0.2", *merges, ""])}


BYTE_LEVEL = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def pre_tokenizer(pattern: str) -> dict[str, Any]:
    """The split in the words of the tokenizers library."""
    if pattern == GPT2_PATTERN:
        return {"type": "ByteLevel", **BYTE_LEVEL}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    last = {"type": "ByteLevel", **BYTE_LEVEL, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, last]}


def as_json(token: AddedToken) -> dict[str, Any]:
    """An added token in the words of the tokenizers library."""
    return {
        "id": token.id, "content": token.text, "single_word": False, "lstrip": token.lstrip,
        "rstrip": token.rstrip, "normalized": token.normalized, "special": token.special,
    }  # fmt: skip
