"""From a URL and options to a file system."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from buffetstore.errors import ConfigurationError, MissingDependencyError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffetstore.objects.fsspec.files import Files

GENERIC = "fsspec+"
_EXTRAS = {"asyncssh": "sftp", "requests": "webhdfs", "requests_kerberos": "webhdfs"}


class Opened(NamedTuple):
    """What a URL and its options come to."""

    files: Files
    root: str
    url: str
    create: bool


class _Place(NamedTuple):
    host: str
    port: int | None
    username: str | None
    path: str


def opened(url: str, options: dict[str, Any]) -> Opened:
    """Return what `url` names; `ConfigurationError` if it or an option is wrong."""
    scheme = url.partition("://")[0]
    opener: Callable[..., Opened] = {"sftp": open_sftp, "webhdfs": open_webhdfs}.get(scheme, open_generic)
    try:
        return opener(url, **options)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise MissingDependencyError(error.name, _EXTRAS[error.name]) from error
    except TypeError as error:
        raise ConfigurationError(f"{scheme}:// cannot be opened with {', '.join(sorted(options))}: {error}") from error


def open_sftp(
    url: str,
    *,
    root: str = "",
    create: bool = False,
    username: str | None = None,
    password: str | None = None,
    client_keys: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    passphrase: str | None = None,
    known_hosts: str | os.PathLike[str] | None = None,
    verify_host: bool = True,
    port: int | None = None,
    timeout_seconds: float = 30.0,
    max_connections: int = 4,
) -> Opened:
    """Return an SFTP server; nothing is sent before the first call.

    Parameters
    ----------
    root, create:
        The folder that keys are below, made if it is missing with `create`. It is `/` by default, so that
        `sftp://host/data/market` is the server's `/data/market`; below the login's home if it does not begin with `/`.
    username, password, client_keys, passphrase:
        The login: keys are private key files, with the passphrase that opens them. By default the user of this process
        with the keys of ``~/.ssh`` and those of the SSH agent.
    known_hosts, verify_host:
        The file of trusted host keys, ``~/.ssh/known_hosts`` by default. ``verify_host=False`` trusts any host: whoever
        is on the way can then read and change everything, the password too.
    port:
        22 unless given, here or in the URL.
    timeout_seconds:
        How long a connection may take to open, and an answer to come. A transfer may take as long as its bytes move.
    max_connections:
        To the server at once; many requests share one.
    """
    place = _place(url)
    # Loaded here, as asyncssh may be missing where only WebHDFS is used.
    sftp = import_module("buffetstore.objects.fsspec.sftp")
    pool = import_module("buffetstore.objects.fsspec.sftp_pool")
    user, port = username or place.username, port or place.port or 22
    keys = [client_keys] if isinstance(client_keys, str | os.PathLike) else client_keys
    given = {
        "username": user,
        "password": password,
        "client_keys": None if keys is None else [os.fspath(key) for key in keys],
        "passphrase": passphrase,
        "known_hosts": None if known_hosts is None else os.fspath(known_hosts),
    }
    # What is None is left to asyncssh, but for the known hosts, where None trusts any.
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    arguments |= {"host": place.host, "port": port, "config": None, "keepalive_interval": 15}
    if not verify_host:
        arguments["known_hosts"] = None
    name = f"sftp://{_netloc(place, user, port, 22)}"
    files = sftp.SFTPFiles(
        pool.SFTPPool(name, arguments, max_connections=max_connections, timeout_seconds=timeout_seconds)
    )
    return _opened(files, url, place, root, name, create=create)


def open_webhdfs(
    url: str,
    *,
    root: str = "",
    create: bool = False,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    kerberos: bool = False,
    use_https: bool = False,
    verify: bool | str = True,
    port: int | None = None,
    timeout_seconds: float = 60.0,
    max_connections: int = 16,
    **options: Any,
) -> Opened:
    """Return an HDFS by its namenode's WebHDFS, or by an HttpFS gateway.

    Parameters
    ----------
    url:
        `webhdfs://[user@]host[:port]`. A path in it is the root.
    root:
        The folder that keys are below: `/` by default.
    create:
        Make `root` if it is missing.
    user, password:
        The name alone where Hadoop asks for no proof, both for HTTP basic authentication.
    token:
        A delegation token; it says who the user is.
    kerberos:
        Log in by SPNEGO with the ticket of ``kinit`` (needs the package requests-kerberos).
    use_https, verify:
        Speak TLS; `verify` may be the file of trusted certificates.
    port:
        9870 (with TLS 9871) unless given, here or in the URL. HttpFS has 14000.
    timeout_seconds:
        How long a connection may take to open, and then be silent.
    max_connections:
        To one host at once.
    **options:
        Further ones of fsspec's `WebHDFS`: proxy_to, data_proxy, kerb_kwargs, session_cert.
    """
    place = _place(url)
    webhdfs = import_module("buffetstore.objects.fsspec.webhdfs")
    client = import_module("fsspec.implementations.webhdfs").WebHDFS
    user, usual = user or place.username, 9871 if use_https else 9870
    port = port or place.port or usual
    try:
        fs = client(
            place.host, port, kerberos=kerberos, token=token, user=user, password=password, use_https=use_https,
            session_verify=verify, skip_instance_cache=True, **options,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigurationError(f"webhdfs://{place.host}: {error}") from error
    files = webhdfs.WebHDFSFiles(fs, timeout_seconds=timeout_seconds, max_connections=max_connections)
    return _opened(files, url, place, root, f"webhdfs://{_netloc(place, user, port, usual)}", create=create)


def open_generic(url: str, *, root: str = "", create: bool = False, **options: Any) -> Opened:
    """Return the file system of `fsspec+protocol://place`, made with `options`, which are its own.

    Parameters
    ----------
    url:
        What fsspec calls it, after `fsspec+`.
    root:
        The folder that keys are below, as the file system writes paths; by default what the URL says.
    create:
        Make `root` if it is missing.
    """
    fsspec = import_module("fsspec")
    generic = import_module("buffetstore.objects.fsspec.generic")
    inner = url.removeprefix(GENERIC)
    protocol = inner.partition("://")[0]
    if "@" in inner.partition("://")[2].partition("/")[0]:
        _place(inner)  # refuses a password
    try:
        kind = fsspec.get_filesystem_class(protocol)
        told = {**kind._get_kwargs_from_urls(inner), **options}  # noqa: SLF001 - what fsspec.core.url_to_fs calls
        fs = kind(**told, skip_instance_cache=True, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"fsspec cannot open {protocol}://: {error}") from error
    except OSError as error:  # some connect at once
        raise UnavailableError(f"{protocol}:// cannot be reached: {error}") from error
    place = root or kind._strip_protocol(inner)  # noqa: SLF001
    return Opened(generic.FsspecFiles(fs), place, f"{GENERIC}{protocol}://{place.rstrip('/')}", create)


def _opened(files: Files, url: str, place: _Place, root: str, name: str, *, create: bool) -> Opened:
    if root and place.path:
        raise ConfigurationError(f"{name} has a path and the option root: give one of them")
    folder = root or place.path or "/"
    if folder == "~" or folder.startswith("~/"):
        folder = "." + folder[1:]
    if not folder.startswith("/"):
        if url.startswith("webhdfs"):
            raise ConfigurationError(f"root is {folder!r}: write it from /, as in /user/name")
        folder = folder if folder.startswith(".") else f"./{folder}"
    if ".." in folder.split("/"):
        raise ConfigurationError(f"root is {folder!r}: write it without '..'")
    shown = "/~" + folder[1:] if folder.startswith(".") else folder
    return Opened(files, folder, name + shown.rstrip("/"), create)


def _place(url: str) -> _Place:
    scheme = url.partition("://")[0]
    netloc, _, path = url.partition("://")[2].partition("/")
    try:
        parts = urlsplit(f"//{netloc}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{scheme}:// with a malformed host or port: write {scheme}://host:port") from error
    if parts.password is not None:  # nor is it shown here
        raise ConfigurationError(f"{scheme}://{host} has a password in its URL: give it by the option password")
    if not host:
        raise ConfigurationError(f"{url!r} names no host: write {scheme}://host")
    username = unquote(parts.username) if parts.username else None
    return _Place(host, port, username, f"/{path}" if path else "")


def _netloc(place: _Place, user: str | None, port: int, usual: int) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    login = f"{user}@" if user else ""
    return f"{login}{host}" + ("" if port == usual else f":{port}")
