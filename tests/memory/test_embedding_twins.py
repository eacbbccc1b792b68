from __future__ import annotations

import numpy as np

from memory.embedding import HashEmbedder, HashWords


async def test_texts_that_share_stems_are_alike_and_others_are_not() -> None:
    embedder = HashEmbedder(256)
    a, b, c = await embedder.embed(["The runner was running fast", "runners run, faster", "interest rates rose"])
    assert float(a @ b) > 0.4 > abs(float(a @ c)) + 0.2
    np.testing.assert_allclose([np.linalg.norm(row) for row in (a, b, c)], 1, atol=1e-6)


async def test_vectors_are_the_same_in_every_process_and_have_the_asked_size() -> None:
    embedder = HashEmbedder(4)
    assert embedder.dimensions == 4
    assert embedder.name == "hash/1"
    assert (await embedder.embed([])).shape == (0, 4)
    np.testing.assert_allclose(await embedder.embed(["cat dog bird"]), await embedder.embed(["bird cats dogs"]))
    first, second = await embedder.embed(["\ud800", "the of"])
    np.testing.assert_allclose([np.linalg.norm(first), np.linalg.norm(second)], 1, atol=1e-6)


async def test_features_that_cancel_out_still_give_a_vector() -> None:
    rows = await HashEmbedder(1).embed([f"w{a} w{b}" for a in range(6) for b in range(6)])
    np.testing.assert_allclose(np.abs(rows), 1)


def test_words_of_like_spelling_are_alike_and_signs_have_no_vector() -> None:
    table = HashWords(256)
    a, b, c, none = table.vectors(["colour", "colours", "bank", "?!"])
    assert float(a @ b) > 0.5 > abs(float(a @ c)) + 0.2
    assert not none.any()
    assert table.vectors([]).shape == (0, 256)
