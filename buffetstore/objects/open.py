"""From a URL to a store with its wrappers: the one list of layers."""

from __future__ import annotations

import inspect
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from buffetstore.errors import ConfigurationError, MissingDependencyError
from buffetstore.monitoring.events import Hook, no_hook
from buffetstore.objects.wrappers.metrics import MetricsStore
from buffetstore.objects.wrappers.prefix import PrefixStore
from buffetstore.objects.wrappers.retry import DEFAULT_POLICY, RetryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.objects.base import ObjectStore
    from buffetstore.resilience.retry import RetryPolicy

# Each is loaded when a URL asks for it; its client library may not be installed.
STORES = {
    "file": "buffetstore.objects.local:LocalStore",
    "gs": "buffetstore.objects.gcs:GCSStore",
    "memory": "buffetstore.objects.memory:MemoryStore",
    "s3": "buffetstore.objects.s3:S3Store",
}
_EXTRAS = {"s3": ("aiobotocore", "s3")}


def open_store(
    url: str | os.PathLike[str], *, hook: Hook = no_hook, retry: RetryPolicy = DEFAULT_POLICY, **options: Any
) -> ObjectStore:
    """Return the store at `url`; close it with `aclose` or `async with`.

    Parameters
    ----------
    url:
        `memory://`, `file:///folder` or a plain path, `gs://bucket`, `s3://bucket`. What follows the bucket is a
        prefix: the keys of the store begin below it.
    hook:
        Told of every operation and retry.
    retry:
        The one layer that retries; `RetryPolicy(attempts=1)` does not.
    **options:
        The store's own, as its constructor documents them: `create=True` for a folder, for example.

    Raises
    ------
    ConfigurationError
        The scheme or an option is unknown, or the URL is malformed.
    MissingDependencyError
        The scheme's client library is not installed.
    """
    text = os.fspath(url)
    scheme, place, prefix = _split(text)
    layers = [
        # outermost first
        lambda store: MetricsStore(store, hook),
        lambda store: RetryStore(store, retry, hook=hook),
        *([lambda store: PrefixStore(store, prefix)] if prefix else []),
    ]
    factory = _factory(scheme, text, options)
    try:
        store = factory(place, **options)
    except TypeError as error:
        raise ConfigurationError(f"{text!r} cannot be opened with {', '.join(sorted(options))}: {error}") from error
    for layer in reversed(layers):
        store = layer(store)
    return store


def _split(url: str) -> tuple[str, str, str]:
    """Return the scheme, the URL of the store itself, and the prefix within it."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        if not url.removeprefix("file://"):
            raise ConfigurationError(f"{url!r} names no folder: write file:///folder, or a path")
        return "file", url, ""
    # Not urlsplit: `?`, `#` and `%` are legal in keys and mean nothing here.
    bucket, _, prefix = rest.partition("/")
    if not bucket and scheme != "memory":
        raise ConfigurationError(f"{url!r} names no bucket: write {scheme}://bucket")
    return scheme, f"{scheme}://{bucket}", prefix.rstrip("/")


def _factory(scheme: str, url: str, options: dict[str, Any]) -> Callable[..., ObjectStore]:
    target = STORES.get(scheme)
    if target is None:
        known = ", ".join(f"{name}://" for name in sorted(STORES))
        raise ConfigurationError(f"{url!r} has an unknown scheme: known are {known} and plain paths")
    module, _, name = target.partition(":")
    try:
        factory = getattr(import_module(module), name).from_url
    except ModuleNotFoundError as error:
        package, extra = _EXTRAS.get(scheme, ("", ""))
        if error.name is None or error.name.partition(".")[0] not in {package, "botocore"}:
            raise
        raise MissingDependencyError(package, extra) from error
    _check_options(factory, name, options)
    return factory  # type: ignore[no-any-return]


def _check_options(factory: Callable[..., ObjectStore], name: str, options: dict[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return  # the store checks them itself
    allowed = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    unknown = sorted(options.keys() - allowed)
    if unknown:
        can = f"it takes {', '.join(sorted(allowed))}" if allowed else "it takes none"
        raise ConfigurationError(f"{name} does not know the option {', '.join(unknown)}: {can}")
