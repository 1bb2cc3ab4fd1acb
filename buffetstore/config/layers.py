"""Settings of what is laid around a store: retries, cache, encryption, limits, other copies."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path  # noqa: TC003 - pydantic evaluates the annotation
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, SecretStr, field_validator

from buffetstore.config.settings import Settings
from buffetstore.objects.layers import Layers
from buffetstore.objects.wrappers.cached import CacheOptions
from buffetstore.resilience.circuit import CircuitPolicy
from buffetstore.resilience.hedge import HedgePolicy
from buffetstore.resilience.permits import ConcurrencyLimit
from buffetstore.resilience.rate import RateLimit
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.security import StaticKeys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CACHE, _HEDGE, _RETRY, _CIRCUIT, _LIMIT = (
    CacheOptions(),
    HedgePolicy(),
    RetryPolicy(),
    CircuitPolicy(),
    ConcurrencyLimit(),
)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class LayerConfig(Settings):
    """The layers around a store; see `Layers` for what each does. By default calls are retried, and nothing else.

    Parameters
    ----------
    encryption_keys:
        `name=key` for each, the key being 32 bytes in base64, with commas between; the first is for new objects
        (OBJECT_ENCRYPTION_KEYS). Everything is encrypted, logs too: other engines cannot read such a table.
    enable_cache, cache_dir, cache_memory_bytes, cache_disk_bytes, cache_ttl_seconds, cache_fresh_seconds:
        ENABLE_CACHE and CACHE_DIR (none keeps it in memory only), CACHE_MEMORY_BYTES, CACHE_DISK_BYTES,
        CACHE_TTL_SECONDS, CACHE_FRESH_SECONDS.
    fallback_url:
        Another copy to read while this one does not answer; the store is then for reading (FALLBACK_URL).
    replica_urls:
        Copies that every write reaches, with commas between (REPLICA_URLS).
    enable_hedging, hedge_percentile, hedge_budget:
        ENABLE_HEDGING, HEDGE_PERCENTILE, HEDGE_BUDGET.
    retry_attempts, retry_base_seconds, retry_max_seconds, retry_deadline_seconds, retry_budget, call_seconds:
        RETRY_ATTEMPTS, RETRY_BASE_SECONDS, RETRY_MAX_SECONDS, RETRY_DEADLINE_SECONDS, RETRY_BUDGET, CALL_SECONDS.
    enable_circuit_breaker, circuit_failure_ratio, circuit_minimum_calls, circuit_open_seconds:
        ENABLE_CIRCUIT_BREAKER, CIRCUIT_FAILURE_RATIO, CIRCUIT_MINIMUM_CALLS, CIRCUIT_OPEN_SECONDS.
    rate_requests_per_second, rate_bytes_per_second:
        RATE_REQUESTS_PER_SECOND, RATE_BYTES_PER_SECOND.
    max_concurrent_calls, max_bytes_in_flight:
        MAX_CONCURRENT_CALLS, MAX_BYTES_IN_FLIGHT.
    """

    VARIABLES: ClassVar[Mapping[str, Sequence[str]]] = {
        "encryption_keys": ("OBJECT_ENCRYPTION_KEYS",),
        "enable_cache": ("ENABLE_CACHE",),
        "cache_dir": ("CACHE_DIR",),
        "cache_memory_bytes": ("CACHE_MEMORY_BYTES",),
        "cache_disk_bytes": ("CACHE_DISK_BYTES",),
        "cache_ttl_seconds": ("CACHE_TTL_SECONDS",),
        "cache_fresh_seconds": ("CACHE_FRESH_SECONDS",),
        "fallback_url": ("FALLBACK_URL",),
        "replica_urls": ("REPLICA_URLS",),
        "enable_hedging": ("ENABLE_HEDGING",),
        "hedge_percentile": ("HEDGE_PERCENTILE",),
        "hedge_budget": ("HEDGE_BUDGET",),
        "retry_attempts": ("RETRY_ATTEMPTS",),
        "retry_base_seconds": ("RETRY_BASE_SECONDS",),
        "retry_max_seconds": ("RETRY_MAX_SECONDS",),
        "retry_deadline_seconds": ("RETRY_DEADLINE_SECONDS",),
        "retry_budget": ("RETRY_BUDGET",),
        "call_seconds": ("CALL_SECONDS",),
        "enable_circuit_breaker": ("ENABLE_CIRCUIT_BREAKER",),
        "circuit_failure_ratio": ("CIRCUIT_FAILURE_RATIO",),
        "circuit_minimum_calls": ("CIRCUIT_MINIMUM_CALLS",),
        "circuit_open_seconds": ("CIRCUIT_OPEN_SECONDS",),
        "rate_requests_per_second": ("RATE_REQUESTS_PER_SECOND",),
        "rate_bytes_per_second": ("RATE_BYTES_PER_SECOND",),
        "max_concurrent_calls": ("MAX_CONCURRENT_CALLS",),
        "max_bytes_in_flight": ("MAX_BYTES_IN_FLIGHT",),
    }

    encryption_keys: SecretStr | None = None
    enable_cache: bool = False
    cache_dir: Path | None = None
    cache_memory_bytes: Bytes = _CACHE.memory_bytes
    cache_disk_bytes: Bytes = _CACHE.disk_bytes
    cache_ttl_seconds: Positive | None = None
    cache_fresh_seconds: NotNegative = 0.0
    fallback_url: str | None = None
    replica_urls: str | None = None
    enable_hedging: bool = False
    hedge_percentile: Share = _HEDGE.percentile
    hedge_budget: Share = _HEDGE.budget
    retry_attempts: int = Field(default=_RETRY.attempts, ge=1, le=100)
    retry_base_seconds: NotNegative = _RETRY.base_seconds
    retry_max_seconds: NotNegative = _RETRY.max_seconds
    retry_deadline_seconds: NotNegative = _RETRY.deadline_seconds
    retry_budget: Positive | None = _RETRY.budget
    call_seconds: Positive | None = None
    enable_circuit_breaker: bool = False
    circuit_failure_ratio: Share = _CIRCUIT.failure_ratio
    circuit_minimum_calls: int = Field(default=_CIRCUIT.minimum_calls, ge=1)
    circuit_open_seconds: Positive = _CIRCUIT.open_seconds
    rate_requests_per_second: Positive | None = None
    rate_bytes_per_second: Positive | None = None
    max_concurrent_calls: int | None = Field(default=None, ge=1)
    max_bytes_in_flight: int | None = Field(default=None, ge=1)

    @field_validator("encryption_keys")
    @classmethod
    def _keys_are_whole(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            _keys(keys)
        return keys

    def layers(self, *, retry_attempts: int | None = None) -> Layers:
        """Return the layers; a cloud's own number of attempts goes before the general one."""
        replicas = (url.strip() for url in (self.replica_urls or "").split(","))
        is_rated = self.rate_requests_per_second is not None or self.rate_bytes_per_second is not None
        is_limited = self.max_concurrent_calls is not None or self.max_bytes_in_flight is not None
        return Layers(
            encryption=None if self.encryption_keys is None else _keys(self.encryption_keys),
            cache=self._cache() if self.enable_cache else None,
            fallback=self.fallback_url,
            replicas=tuple(url for url in replicas if url),
            hedge=HedgePolicy(self.hedge_percentile, budget=self.hedge_budget) if self.enable_hedging else None,
            retry=RetryPolicy(
                attempts=self.retry_attempts if retry_attempts is None else retry_attempts,
                base_seconds=self.retry_base_seconds,
                max_seconds=self.retry_max_seconds,
                deadline_seconds=self.retry_deadline_seconds,
                call_seconds=self.call_seconds,
                budget=self.retry_budget,
            ),
            circuit=self._circuit() if self.enable_circuit_breaker else None,
            rate=RateLimit(self.rate_requests_per_second, self.rate_bytes_per_second) if is_rated else None,
            limit=self._limit() if is_limited else None,
        )

    def _cache(self) -> CacheOptions:
        return CacheOptions(
            memory_bytes=self.cache_memory_bytes,
            folder=self.cache_dir,
            disk_bytes=self.cache_disk_bytes,
            ttl_seconds=self.cache_ttl_seconds,
            fresh_seconds=self.cache_fresh_seconds,
            immutable=is_data_file,
        )

    def _circuit(self) -> CircuitPolicy:
        return CircuitPolicy(
            self.circuit_failure_ratio, self.circuit_minimum_calls, open_seconds=self.circuit_open_seconds
        )

    def _limit(self) -> ConcurrencyLimit:
        calls = _LIMIT.calls if self.max_concurrent_calls is None else self.max_concurrent_calls
        return ConcurrencyLimit(calls, self.max_bytes_in_flight)


def is_data_file(key: str) -> bool:
    """Return whether the key is that of a table's data file, whose name carries a unique id and never changes.

    Entries of a log are not: a table that is deleted and made anew has entries of the same names.
    """
    return key.endswith(".parquet") and "_delta_log/" not in key


def _keys(text: SecretStr) -> StaticKeys:
    """Return the keyring; messages name keys but never show one."""
    held: dict[str, bytes] = {}
    for number, part in enumerate(text.get_secret_value().split(","), 1):
        name, separator, key = part.strip().partition("=")
        if not separator:
            raise ValueError(f"key {number} is not of the form name=key")
        try:
            held[name] = base64.b64decode(key, validate=True)
        except binascii.Error:
            raise ValueError(f"the key {name!r} is not base64") from None
    return StaticKeys(held, next(iter(held)))
