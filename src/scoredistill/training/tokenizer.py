"""A byte-pair tokenizer trained on captions, in the format of `transformers.CLIPTokenizer`.

The vocabulary is built like that of CLIP: the 256 bytes, the 256 bytes at the end of a word ("a</w>"), one entry per
merge, and the start and end tokens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from scoredistill.files import write_text

MAX_LENGTH = 24
"""Tokens per prompt, including the start and end tokens."""

START, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""CLIP's pattern for splitting text into words."""

FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def learn_merges(texts: Iterable[str], merges: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from texts, in order of priority."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = 2 * len(alphabet) + merges
    trainer = trainers.BpeTrainer(
        vocab_size=size, end_of_word_suffix=SUFFIX, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs[:merges]]
    return [(first, second) for first, second in pairs]


def train_tokenizer(texts: Iterable[str], folder: Path, merges: int = 2500) -> CLIPTokenizer:
    """Train a tokenizer on texts and save it in `folder`, for old and new versions of transformers."""
    pairs = learn_merges(texts, merges)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + SUFFIX for letter in alphabet), *("".join(pair) for pair in pairs), START, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs), ""]))
    markers = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    settings = {"model_max_length": MAX_LENGTH, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    write_text(folder / "tokenizer_config.json", json.dumps(settings | markers, indent=2))
    write_text(folder / "special_tokens_map.json", json.dumps(markers, indent=2))
    return CLIPTokenizer.from_pretrained(folder)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Replace the tokenizer files in `target` by those of `source`, which every version of transformers reads."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "tokenizer.json").unlink(missing_ok=True)
    for name in FILES:
        shutil.copyfile(source / name, target / name)
