from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from memory.words import content_words, index_terms, stem, tokens


def test_tokens_are_lower_case_without_possessives() -> None:
    assert tokens("Ann's dogs’ bowls -- don't STOP, naïve!") == ["ann", "dogs", "bowls", "don't", "stop", "naïve"]
    assert tokens("") == []


def test_content_words_leave_out_what_carries_no_subject() -> None:
    assert content_words("What is the capital of France and France's king?") == ["capital", "france", "france", "king"]


def test_stems_are_the_same_from_every_thread() -> None:
    words = [f"running{at}" for at in range(200)] + ["studies", "flies", "generously"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(stem, words)) == [stem(word) for word in words]
    assert [stem(word) for word in ("studies", "generously", "runs")] == ["studi", "generous", "run"]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The cats' toys", ["cat", "toy"]),
        ("DeleteBucket", ["deletebucket", "delet", "bucket"]),
        ("getHTTPResponse2", ["gethttpresponse2", "get", "http", "respons"]),
        ("max_page_count=7", ["max_page_count", "max", "page", "count", "7"]),
        ("_private__", ["_private__"]),
        ("x" * 100, ["x" * 64]),
        ("", []),
    ],
)
def test_index_terms_hold_identifiers_whole_and_in_parts(text: str, terms: list[str]) -> None:
    assert index_terms(text) == terms
