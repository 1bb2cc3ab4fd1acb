"""What requests and bytes cost where they are asked for: list prices times counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from buffetstore.query.prices import AS_OF, LIST_PRICES

if TYPE_CHECKING:
    from buffetstore.query.prices import Prices

_GIB: Final = 1024**3
_FREE: Final = frozenset({"memory", "file"})
_SAME: Final = {"gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az", "s3a": "s3"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What something costs, in US dollars.

    Parameters
    ----------
    requests, retrieval:
        For the requests, and for bytes of a storage class that charges for reading. None where there is no price.
    egress:
        For the bytes if they leave the region, which `total` does not hold: nobody but the caller knows where he is.
    note:
        Which prices were taken, or why there are none.
    """

    requests: float | None
    retrieval: float | None
    egress: float | None
    note: str

    @property
    def total(self) -> float | None:
        """What reading costs within the region."""
        return None if self.requests is None or self.retrieval is None else self.requests + self.retrieval

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "total": self.total,
            "requests": self.requests,
            "retrieval": self.retrieval,
            "egress": self.egress,
            "note": self.note,
        }


def cost_of(
    url: str,
    requests: int,
    bytes: int,  # noqa: A002 - what is counted is called so everywhere
    storage_class: str | None = None,
    region: str | None = None,
    *,
    writes: int = 0,
    prices: Prices | None = None,
) -> Cost:
    """Return what reading costs; what there is no price for is said in the note, and no error.

    Parameters
    ----------
    url:
        Of the store: its scheme says whose prices they are. Memory and files are free.
    requests, bytes:
        GETs, and what they bring.
    storage_class, region:
        As the provider writes them: ``"NEARLINE"``, ``"europe-west1"``. None is the first in the table: the standard
        class of a large region in the United States.
    writes:
        PUTs and LISTs.
    prices:
        A table of one's own; None is that of `buffetstore.query.prices`.

    >>> cost_of("gs://bucket", 1000, 2 * 1024**3, "NEARLINE", "europe-west1").total
    0.021
    """
    scheme = url.partition("://")[0].lower() if "://" in url else "file"
    if scheme in _FREE:
        return Cost(0.0, 0.0, 0.0, f"{scheme}:// is free")
    table = LIST_PRICES if prices is None else prices
    regions = table.get(scheme) or table.get(_SAME.get(scheme, scheme))
    if not regions:
        return _unknown(f"no prices are known for {scheme}://")
    where = next(iter(regions)) if region is None else region.lower()
    if where not in regions:
        return _unknown(f"no prices are known for the region {region!r}: there are {', '.join(regions)}")
    classes = regions[where].classes
    kind = next(iter(classes)) if storage_class is None else storage_class.upper()
    if kind not in classes:
        return _unknown(f"no prices are known for the storage class {storage_class!r}: there are {', '.join(classes)}")
    price, gib = classes[kind], bytes / _GIB
    source = f"list prices of {AS_OF}" if prices is None else "given prices"
    guessed = [name for name, given in (("region", region), ("storage class", storage_class)) if given is None]
    note = f"{source}, {where}, {kind}" + (f" ({' and '.join(guessed)} not given)" if guessed else "")
    return Cost(
        round((requests * price.read + writes * price.write) / 1000, 12),
        round(gib * price.retrieval, 12),
        round(gib * regions[where].egress, 12),
        note,
    )


def _unknown(note: str) -> Cost:
    return Cost(None, None, None, note)
