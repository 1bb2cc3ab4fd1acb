"""What is laid around a store, outermost first, and whether it is there by default."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.objects.wrappers.cache import CacheStore
from buffetstore.objects.wrappers.circuit import CircuitStore
from buffetstore.objects.wrappers.encryption import EncryptionStore
from buffetstore.objects.wrappers.fallback import FallbackStore
from buffetstore.objects.wrappers.hedge import HedgeStore
from buffetstore.objects.wrappers.limit import LimitStore
from buffetstore.objects.wrappers.metrics import MetricsStore
from buffetstore.objects.wrappers.rate import RateStore
from buffetstore.objects.wrappers.replicate import ReplicateStore
from buffetstore.objects.wrappers.retry import DEFAULT_POLICY, RetryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffetstore.monitoring.events import Hook
    from buffetstore.objects.base import ObjectStore
    from buffetstore.objects.wrappers.cached import CacheOptions
    from buffetstore.resilience.circuit import CircuitPolicy
    from buffetstore.resilience.hedge import HedgePolicy
    from buffetstore.resilience.permits import ConcurrencyLimit
    from buffetstore.resilience.rate import RateLimit
    from buffetstore.resilience.retry import RetryPolicy
    from buffetstore.security.keys import KeyProvider

    Layer = Callable[[ObjectStore], ObjectStore]


@dataclass(frozen=True, slots=True)
class Layers:
    """What `open_store` lays around a store; a layer that is None is not there.

    Parameters
    ----------
    encryption:
        The keys that objects are encrypted with before they leave.
    cache:
        What is kept of what was read, in memory and on disk.
    fallback:
        Another copy, a URL or a store, that is read while this one does not answer. With it the store is for reading.
    replicas:
        Other copies, URLs or stores, that every write reaches after this one has decided it.
    hedge:
        When a slow read is asked for a second time.
    retry:
        How often, how long. `RetryPolicy(attempts=1)` does not retry, but still settles writes.
    circuit:
        When a failing service is left alone.
    rate:
        Requests and bytes a second.
    limit:
        Calls and bytes in flight.
    """

    encryption: KeyProvider | None = None
    cache: CacheOptions | None = None
    fallback: str | ObjectStore | None = None
    replicas: tuple[str | ObjectStore, ...] = ()
    hedge: HedgePolicy | None = None
    retry: RetryPolicy = DEFAULT_POLICY
    circuit: CircuitPolicy | None = None
    rate: RateLimit | None = None
    limit: ConcurrencyLimit | None = None

    def around(
        self, store: ObjectStore, hook: Hook, another: Callable[[str], ObjectStore], *, prefix: str = ""
    ) -> ObjectStore:
        """Return `store` with these layers.

        Parameters
        ----------
        another:
            Opens the copies that are named by URL.
        prefix:
            Where in its bucket the store's keys start: encrypted objects are bound to their whole key.
        """

        def opened(copy: str | ObjectStore) -> ObjectStore:
            if isinstance(copy, str):
                return laid(_per_copy(self, hook), another(copy))
            return copy

        around: list[Layer] = [partial(MetricsStore, hook=hook)]  # outermost first
        if self.encryption is not None:
            around.append(partial(EncryptionStore, keys=self.encryption, prefix=prefix))
        if self.cache is not None:
            around.append(partial(CacheStore, options=self.cache, hook=hook))
        if self.fallback is not None:
            around.append(partial(FallbackStore, fallback=opened(self.fallback), hook=hook))
        if self.replicas:
            around.append(partial(ReplicateStore, replicas=[opened(copy) for copy in self.replicas], hook=hook))
        return laid([*around, *_per_copy(self, hook)], store)


DEFAULT_LAYERS = Layers()


def _per_copy(layers: Layers, hook: Hook) -> list[Layer]:
    """Return what is laid around each copy of the data by itself, outermost first."""
    around: list[Layer] = []
    if layers.hedge is not None:
        around.append(partial(HedgeStore, policy=layers.hedge, hook=hook))
    around.append(partial(RetryStore, policy=layers.retry, hook=hook))
    if layers.circuit is not None:
        around.append(partial(CircuitStore, policy=layers.circuit, hook=hook))
    if layers.rate is not None:
        around.append(partial(RateStore, limit=layers.rate, hook=hook))
    if layers.limit is not None:
        around.append(partial(LimitStore, limit=layers.limit, hook=hook))
    return around


def laid(layers: Sequence[Layer], store: ObjectStore) -> ObjectStore:
    """Return `store` with the layers around it; the first is the outermost."""
    for layer in reversed(layers):
        store = layer(store)
    return store
