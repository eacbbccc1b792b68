from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import memory.minilm as minilm
from memory.minilm import MiniLM, MiniLMWords
from memory.minilm_graph import build
from memory.minilm_weights import model_folder
from memory.store import MemoryUnavailable


@pytest.fixture(scope="module")
def model() -> Iterator[MiniLM]:
    model = MiniLM()
    yield model
    model.close()


@pytest.fixture(scope="module")
def table() -> MiniLMWords:
    return MiniLMWords()


async def test_meaning_decides_what_is_alike(model: MiniLM) -> None:
    vectors = await model.embed(["A cat sat on the mat.", "A kitten rested on a rug.", "Interest rates rose again."])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, model.dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cat_kitten, cat_rates = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert cat_kitten > 0.5 > 0.2 > cat_rates


async def test_known_cosines_of_the_published_model_are_met(model: MiniLM) -> None:
    """Values that the model's own card gives for these three sentences (0.6660, 0.1046, 0.1411), fp32 on CPU."""
    vectors = await model.embed(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    cosines = [float(vectors[a] @ vectors[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert cosines == pytest.approx([0.6660, 0.1046, 0.1411], abs=2e-4)


async def test_text_has_the_same_vector_alone_in_a_batch_and_again(model: MiniLM) -> None:
    texts = [f"{'word ' * (1 + 7 * (at % 5))} number {at}" for at in range(21)]
    together = await model.embed(texts)
    alone = np.concatenate([await model.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_array_equal(together, await model.embed(texts))


async def test_no_texts_give_no_rows_and_any_text_has_a_vector(model: MiniLM) -> None:
    assert (await model.embed([])).shape == (0, 384)
    odd = ["", " ", "\0", "lone \ud800", "🙂", "日本語", "x" * 1_000_000, "word " * 1_000_000]
    vectors = await model.embed(odd)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_what_comes_after_256_word_pieces_does_not_count_and_what_comes_before_does(model: MiniLM) -> None:
    short, exact = "cat " * 253, "cat " * 254
    vectors = await model.embed([short + "dog", exact + "dog " * 50, exact, short])
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-5)
    assert float(np.abs(vectors[0] - vectors[3]).max()) > 1e-3


async def test_a_questions_vector_is_nearly_the_one_that_is_stored(model: MiniLM) -> None:
    texts = [
        "What is it?",
        "",
        "lone \ud800",
        "日本語",
        "Which of the two rivers that meet here is longer?",
        "x" * 9999,
    ]
    texts.append("The lighthouse was built of granite in 1878 and lit with oil. " * 30)
    for text, stored in zip(texts, await model.embed(texts), strict=True):
        asked = await model.embed_query(text)
        assert asked.shape == (model.dimensions,)
        assert asked.dtype == np.float32
        assert float(asked @ asked) == pytest.approx(1, abs=1e-5)
        assert float(asked @ stored) > (0.9999 if len(text) < 20 else 0.999)
        np.testing.assert_array_equal(asked, await model.embed_query(text))


async def test_question_does_not_wait_behind_ingestion(model: MiniLM) -> None:
    bulk = asyncio.create_task(model.embed(["a passage of some length " * 30] * 64))
    await asyncio.sleep(0)
    await model.embed(["Who is it?"])
    await model.embed_query("What is it?")
    assert not bulk.done()
    bulk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bulk
    assert (await model.embed(["one", "two", "three"])).shape == (3, 384)


@pytest.mark.parametrize(("file", "bits"), [("minilm.onnx", False), ("minilm_bits.onnx", True)])
def test_committed_graph_is_what_the_builder_makes(file: str, bits: bool) -> None:
    committed = Path(minilm.__file__).with_name(file).read_bytes()
    assert committed == build(bits=bits).SerializeToString(deterministic=True)
    assert len(committed) < 25_000


@pytest.mark.parametrize("wheel", ["no-such-wheel-of-ours", "pytest"])  # not installed; without the model
def test_missing_wheel_is_told_with_what_to_do(wheel: str) -> None:
    with pytest.raises(MemoryUnavailable, match="install the package"):
        model_folder(wheel)


def test_like_words_have_like_static_vectors(table: MiniLMWords) -> None:
    buy, purchase, king, nothing, odd = table.vectors(["buy", "purchase", "king", "", "\ud800unheardof"])
    assert float(buy @ purchase) > 0.5 > abs(float(buy @ king)) + 0.2
    np.testing.assert_allclose([np.linalg.norm(row) for row in (buy, purchase, king, odd)], 1, atol=1e-5)
    assert not nothing.any()
    assert table.vectors([]).shape == (0, 384)


def test_words_have_the_same_vectors_together_and_one_by_one(table: MiniLMWords) -> None:
    words = [
        "harbour",
        "harbourmasterly",
        "",
        "don't",
        "max_size",
        "naïve",
        "7",
        "東京",
        "harbour",
        "\ud800",
        "x" * 300,
    ]
    alone = MiniLMWords()
    np.testing.assert_allclose(
        table.vectors(words), np.concatenate([alone.vectors([word]) for word in words]), atol=1e-6
    )


def test_a_word_has_the_same_vector_however_it_is_written(table: MiniLMWords) -> None:
    plain, capital, spaced = table.vectors(["harbour", "HARBOUR", " harbour"])
    np.testing.assert_array_equal(plain, capital)
    np.testing.assert_array_equal(plain, spaced)


def test_cached_words_are_bounded_and_stay_the_same() -> None:
    table = MiniLMWords(cached=3)
    words = ["one", "two", "three", "four", "five"]
    first = table.vectors(words)
    np.testing.assert_array_equal(first, table.vectors(words))
    np.testing.assert_array_equal(first[::-1], table.vectors(words[::-1]))
