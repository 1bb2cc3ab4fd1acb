"""From a URL to a store with its layers: which stores there are, ours and others'."""

from __future__ import annotations

import inspect
import os
import re
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

from buffetstore.errors import ConfigurationError, MissingDependencyError
from buffetstore.monitoring.events import Hook, no_hook
from buffetstore.objects.layers import DEFAULT_LAYERS, Layers
from buffetstore.objects.wrappers.prefix import PrefixStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.objects.base import ObjectStore

    StoreFactory = Callable[..., ObjectStore]


class Builtin(NamedTuple):
    """A store of ours: loaded when a URL asks for it, as its client library may not be installed."""

    target: str
    packages: tuple[str, ...] = ()
    extra: str = ""


_AZURE = Builtin("buffetstore.objects.azure:AzureStore", ("azure",), "azure")
_SFTP = Builtin("buffetstore.objects.fsspec:FsspecStore", ("fsspec", "asyncssh"), "sftp")
_WEBHDFS = Builtin("buffetstore.objects.fsspec:FsspecStore", ("fsspec", "requests"), "webhdfs")
_FSSPEC = "fsspec+"  # and the protocol of any file system that fsspec knows
STORES = {
    "abfs": _AZURE,
    "abfss": _AZURE,
    "az": _AZURE,
    "file": Builtin("buffetstore.objects.local:LocalStore"),
    "gs": Builtin("buffetstore.objects.gcs:GCSStore"),
    "memory": Builtin("buffetstore.objects.memory:MemoryStore"),
    "s3": Builtin("buffetstore.objects.s3:S3Store", ("botocore",), "s3"),
    "sftp": _SFTP,
    "webhdfs": _WEBHDFS,
}
ENTRY_POINTS = "buffetstore.stores"
_registered: dict[str, StoreFactory] = {}


def register_store(scheme: str, factory: StoreFactory) -> None:
    """Let `open_store` open the URLs of `scheme` by ``factory(url, **options)``; the last one registered wins.

    The URL that the factory gets has no prefix: ``scheme://place``. A package does the same, without being imported
    before, by an entry point of the group ``buffetstore.stores``, named as the scheme, that loads the factory.

    Raises
    ------
    ConfigurationError
        `scheme` is not one, or is one of ours.

    Examples
    --------
    >>> from buffetstore.objects.memory import MemoryStore
    >>> register_store("scratch", lambda url, **options: MemoryStore())
    >>> open_store("scratch://any/prefix").url
    'memory://prefix'
    """
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ConfigurationError(f"{scheme!r} is not the scheme of a URL: lower case letters, digits, '+', '.', '-'")
    if scheme in STORES:
        raise ConfigurationError(f"{scheme}:// is a store of ours: register another scheme")
    _registered[scheme] = factory


def open_store(
    url: str | os.PathLike[str], *, hook: Hook = no_hook, layers: Layers = DEFAULT_LAYERS, **options: Any
) -> ObjectStore:
    """Return the store at `url`; close it with `aclose` or `async with`.

    Parameters
    ----------
    url:
        `memory://`, `file:///folder` or a plain path, `gs://bucket`, `s3://bucket`, `az://container` or
        `abfss://container@account.dfs.core.windows.net`, `sftp://host/folder`, `webhdfs://host:port/folder`,
        `fsspec+<protocol>://...`, or what was registered by `register_store`. What follows the bucket is a prefix: the
        keys of the store begin below it.
    hook:
        Told of every operation and retry.
    layers:
        What is laid around the store: retries, a cache, encryption, limits, other copies.
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
    prefix = _split(text)[2]
    return layers.around(_bare(text, options), hook, lambda copy: _bare(copy, {}), prefix=prefix)


def _bare(url: str, options: dict[str, Any]) -> ObjectStore:
    """Return the store at `url` with nothing around it but its prefix."""
    scheme, place, prefix = _split(url)
    factory = _factory(scheme, url, options)
    try:
        store = factory(place, **options)
    except TypeError as error:
        raise ConfigurationError(f"{url!r} cannot be opened with {', '.join(sorted(options))}: {error}") from error
    return PrefixStore(store, prefix) if prefix else store


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


def _factory(scheme: str, url: str, options: dict[str, Any]) -> StoreFactory:
    builtin = _WEBHDFS if scheme.startswith(_FSSPEC) else STORES.get(scheme)
    if builtin is None:
        return _custom(scheme, url)
    module, _, name = builtin.target.partition(":")
    try:
        factory: StoreFactory = getattr(import_module(module), name).from_url
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in builtin.packages:
            raise
        raise MissingDependencyError(builtin.packages[0], builtin.extra) from error
    _check_options(factory, name, options)
    return factory


def _custom(scheme: str, url: str) -> StoreFactory:
    if scheme in _registered:
        return _registered[scheme]
    found = entry_points(group=ENTRY_POINTS)
    if scheme in found.names:
        return found[scheme].load()  # type: ignore[no-any-return]
    known = ", ".join(f"{name}://" for name in sorted({*STORES, *_registered, *found.names}))
    raise ConfigurationError(f"{url!r} has an unknown scheme: known are {known} and plain paths")


def _check_options(factory: Callable[..., ObjectStore], name: str, options: dict[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return  # the store checks them itself
    allowed = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    unknown = sorted(options.keys() - allowed)
    if unknown:
        can = f"it takes {', '.join(sorted(allowed))}" if allowed else "it takes none"
        raise ConfigurationError(f"{name} does not know the option {', '.join(unknown)}: {can}")
