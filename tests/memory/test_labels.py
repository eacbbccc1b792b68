from __future__ import annotations

import pytest

from memory.types import Label, join_labels


def test_joined_label_has_the_least_trust_the_common_readers_and_all_sources() -> None:
    joined = join_labels(
        [
            Label("acme", "user", 3),
            Label("acme", "doc:a#1", 1, frozenset({"ann", "bob"}), sources=frozenset({"doc:z#0"})),
            Label("acme", "doc:b#2", 2, frozenset({"bob", "cid"}), secret=True),
        ]
    )
    sources = frozenset({"user", "doc:a#1", "doc:b#2", "doc:z#0"})
    assert joined == Label("acme", "model", 1, frozenset({"bob"}), secret=True, sources=sources)


def test_text_of_nobodys_common_readers_is_for_nobody_and_not_for_everyone() -> None:
    joined = join_labels([Label("acme", "a", 1, frozenset({"ann"})), Label("acme", "b", 1, frozenset({"bob"}))])
    assert joined.readers
    assert not joined.readers & {"ann", "bob"}
    assert join_labels([Label("acme", "a", 1), Label("acme", "b", 1)]).readers == frozenset()


def test_labels_of_two_tenants_and_of_nothing_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="different tenants"):
        join_labels([Label("acme", "a", 1), Label("other", "b", 1)])
    with pytest.raises(ValueError, match="at least one"):
        join_labels([])
