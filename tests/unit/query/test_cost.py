from __future__ import annotations

import pytest

from buffetstore.query.cost import cost_of
from buffetstore.query.prices import AS_OF, LIST_PRICES, ClassPrices, RegionPrices

GIB = 1024**3


@pytest.mark.parametrize("url", ["memory://", "file:///data", "/data"])
def test_memory_and_files_are_free(url: str) -> None:
    cost = cost_of(url, 10**6, 10**12)
    assert (cost.total, cost.egress) == (0.0, 0.0)
    assert "free" in cost.note


def test_requests_retrieval_and_egress() -> None:
    cost = cost_of("gs://bucket/prefix", 2000, 10 * GIB, "coldline", "EUROPE-WEST1", writes=1000)
    assert (cost.requests, cost.retrieval, cost.egress) == (0.04, 0.2, 1.2)
    assert cost.total == pytest.approx(0.24)
    assert AS_OF in cost.note
    assert "not given" not in cost.note
    assert cost.to_dict()["total"] == cost.total


def test_what_is_not_given_is_said() -> None:
    cost = cost_of("s3://bucket", 1000, GIB)
    assert cost.total == 0.0004
    assert cost.note == f"list prices of {AS_OF}, us-east-1, STANDARD (region and storage class not given)"


@pytest.mark.parametrize(
    ("url", "options", "shown"),
    [
        ("sftp://host", {}, "sftp://"),
        ("s3://bucket", {"region": "moon-1"}, "'moon-1': there are us-east-1"),
        ("az://box", {"storage_class": "frozen"}, "'frozen': there are HOT, COOL"),
    ],
)
def test_what_has_no_price_is_said_and_no_error(url: str, options: dict[str, str], shown: str) -> None:
    cost = cost_of(url, 1, 1, **options)
    assert (cost.total, cost.requests, cost.egress) == (None, None, None)
    assert shown in cost.note


def test_prices_of_ones_own() -> None:
    own = {"s3": {"here": RegionPrices({"FAST": ClassPrices(2.0, 1.0, 0.5, 0.1)}, 0.0)}}
    cost = cost_of("s3a://bucket", 1000, GIB, prices=own)
    assert (cost.total, cost.note) == (1.5, "given prices, here, FAST (region and storage class not given)")


def test_colder_classes_are_cheaper_to_keep_and_dearer_to_read() -> None:
    for regions in LIST_PRICES.values():
        for region in regions.values():
            found = [region.classes[name] for name in region.classes if name != "INTELLIGENT_TIERING"]
            assert [each.kept for each in found] == sorted((each.kept for each in found), reverse=True)
            assert [each.retrieval for each in found] == sorted(each.retrieval for each in found)
            assert all(each.read <= each.write for each in found)
