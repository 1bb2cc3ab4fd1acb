"""List prices of object stores, in US dollars: what the providers asked publicly on `AS_OF`, without discounts or tax.

They were put down without looking at the providers' pages, from copies of them and of what tools made of their price
lists, as each comment says; where it says *from memory* there was no copy. Look at the pages before you trust a bill
to them, or give your own: `Prices` is all that `cost_of` reads.

- https://cloud.google.com/storage/pricing
- https://aws.amazon.com/s3/pricing/
- https://azure.microsoft.com/pricing/details/storage/blobs/

Classes that answer only after hours (Glacier, Deep Archive, Azure's archive) are left out: nothing reads them directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

AS_OF: Final = "2025-06"


@dataclass(frozen=True, slots=True)
class ClassPrices:
    """What one storage class costs: per 1,000 requests, and per GiB (retrieved, and kept for a month)."""

    write: float
    read: float
    retrieval: float
    kept: float


@dataclass(frozen=True, slots=True)
class RegionPrices:
    """What a region costs: by storage class, and per GiB that leaves it for the internet, at the first step."""

    classes: Mapping[str, ClassPrices]
    egress: float


Prices: TypeAlias = Mapping[str, Mapping[str, RegionPrices]]  # by scheme of a URL, and region


def _gcs(kept: tuple[float, float, float, float], *, several: bool = False) -> RegionPrices:
    # Requests of class A and B, and retrieval, are alike in all single regions (copy of the page, 2025); class A of
    # dual and multi-regions costs twice as much (from memory).
    times = 2 if several else 1
    names = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
    writes, reads, retrieval = (0.005, 0.01, 0.02, 0.05), (0.0004, 0.001, 0.01, 0.05), (0.0, 0.01, 0.02, 0.05)
    found = zip(names, writes, reads, retrieval, kept, strict=True)
    classes = {name: ClassPrices(write * times, read, fee, month) for name, write, read, fee, month in found}
    return RegionPrices(MappingProxyType(classes), 0.12)


def _s3(standard: float, infrequent: float, one_zone: float, instant: float, *, request: float = 1.0) -> RegionPrices:
    # us-east-1: infracost's price list in its tests, 2024, but for GLACIER_IR; Frankfurt asks 8 % more for requests
    # of the standard class (overview of its prices, 2021); all else from memory.
    write, read = round(0.005 * request, 5), round(0.0004 * request, 5)
    classes = {
        "STANDARD": ClassPrices(write, read, 0.0, standard),
        "INTELLIGENT_TIERING": ClassPrices(write, read, 0.0, standard),
        "STANDARD_IA": ClassPrices(0.01, 0.001, 0.01, infrequent),
        "ONEZONE_IA": ClassPrices(0.01, 0.001, 0.01, one_zone),
        "GLACIER_IR": ClassPrices(0.02, 0.01, 0.03, instant),
    }
    return RegionPrices(MappingProxyType(classes), 0.09)


def _azure(hot: float, cool: float, cold: float, *, write: float = 0.0055, read: float = 0.00044) -> RegionPrices:
    # Locally redundant block blobs. westus, hot and cool: infracost's price list in its tests, 2024; cold and the other
    # regions from memory.
    classes = {
        "HOT": ClassPrices(write, read, 0.0, hot),
        "COOL": ClassPrices(0.01, 0.001, 0.01, cool),
        "COLD": ClassPrices(0.018, 0.01, 0.03, cold),
    }
    return RegionPrices(MappingProxyType(classes), 0.087)


_IOWA = _gcs((0.02, 0.01, 0.004, 0.0012))
_VIRGINIA = _gcs((0.023, 0.013, 0.006, 0.0025))
_GCS: Final = {
    "us-central1": _IOWA,
    "us-east1": _IOWA,
    "us-east4": _VIRGINIA,
    "us-west1": _IOWA,
    "europe-north1": _IOWA,
    "europe-west1": _IOWA,
    "europe-west2": _gcs((0.023, 0.013, 0.007, 0.0025)),
    "europe-west3": _VIRGINIA,
    "europe-west4": _IOWA,
    "us": _gcs((0.026, 0.015, 0.007, 0.0024), several=True),
    "eu": _gcs((0.026, 0.015, 0.007, 0.0024), several=True),
}
_S3: Final = {
    "us-east-1": _s3(0.023, 0.0125, 0.01, 0.004),
    "us-east-2": _s3(0.023, 0.0125, 0.01, 0.004),
    "us-west-2": _s3(0.023, 0.0125, 0.01, 0.004),
    "eu-west-1": _s3(0.023, 0.0125, 0.01, 0.004),
    "eu-central-1": _s3(0.0245, 0.0135, 0.0108, 0.005, request=1.08),
}
_AZURE: Final = {
    "eastus": _azure(0.0208, 0.0152, 0.0045),
    "westus": _azure(0.0208, 0.0152, 0.0045),
    "westeurope": _azure(0.0196, 0.01, 0.0045, write=0.0054, read=0.00043),
    "northeurope": _azure(0.018, 0.01, 0.0036),
}
# The first region and class of each are taken where none is named.
LIST_PRICES: Final[Prices] = MappingProxyType({"gs": _GCS, "s3": _S3, "az": _AZURE})
