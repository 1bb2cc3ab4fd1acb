"""Signed URLs, version 4 (https://cloud.google.com/storage/docs/authentication/canonical-requests)."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

import aiohttp
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from yarl import URL

from buffetstore.errors import AuthenticationError, InvalidInputError, StorageError, UnsupportedOperationError
from buffetstore.objects.gcs.auth import PLATFORM_SCOPE, Credentials, StaticToken, refused
from buffetstore.resilience.threads import in_disk_thread, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.objects.gcs.client import ClientOptions, GCSClient

SIGN_BLOB = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:signBlob"
_ALGORITHM = "GOOG4-RSA-SHA256"
_LONGEST_SECONDS = 7 * 24 * 3600


class UrlSigner:
    """Signs with the service account's key, or has IAM sign for the account that is impersonated.

    Parameters
    ----------
    bucket, client, options:
        Those of the store.
    clock:
        Now, in UTC.
    """

    def __init__(
        self,
        bucket: str,
        client: GCSClient,
        options: ClientOptions,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._options = options
        self._clock = clock
        self._account: tuple[str, rsa.RSAPrivateKey] | None = None
        self._source: tuple[aiohttp.ClientSession, Credentials | StaticToken] | None = None

    async def signed_url(
        self, key: str, method: Literal["GET", "PUT"], expires_seconds: int, content_type: str | None
    ) -> str:
        """Return the URL; see `ObjectStore.signed_url`."""
        if not 1 <= expires_seconds <= _LONGEST_SECONDS:
            raise InvalidInputError(f"expires_seconds {expires_seconds} must be in 1..{_LONGEST_SECONDS}", key=key)
        email = self._options.service_account_email or (await self._own_account())[0]
        headers = {"host": _authority(URL(self._client.root))}
        if content_type is not None:
            headers["content-type"] = content_type
        now = self._clock()
        scope = f"{now:%Y%m%d}/auto/storage/goog4_request"
        query = {
            "X-Goog-Algorithm": _ALGORITHM,
            "X-Goog-Credential": f"{email}/{scope}",
            "X-Goog-Date": f"{now:%Y%m%dT%H%M%SZ}",
            "X-Goog-Expires": str(expires_seconds),
            "X-Goog-SignedHeaders": ";".join(sorted(headers)),
        }
        place = URL(self._client.root).raw_path.rstrip("/") + f"/{self._bucket}/{quote(key, safe='/~')}"
        text = to_sign(method, place, query, headers)
        if self._options.service_account_email is None:
            _, private = await self._own_account()
            signature = await in_thread(private.sign, text, padding.PKCS1v15(), hashes.SHA256())
        else:
            signature = await self._signed_by_service(text, email)
        root = URL(self._client.root).origin()
        return f"{root}{place}?{_encoded(query)}&X-Goog-Signature={signature.hex()}"

    async def _own_account(self) -> tuple[str, rsa.RSAPrivateKey]:
        if self._options.service_file is None:
            raise UnsupportedOperationError(
                f"gs://{self._bucket} cannot sign URLs: give service_file, a service account's key file, or "
                "service_account_email, an account to sign as"
            )
        if self._account is None:
            self._account = await in_disk_thread(_read_account, self._options.service_file)
        return self._account

    async def _signed_by_service(self, text: bytes, email: str) -> bytes:
        session = self._client.pool.session
        if self._source is None or self._source[0] is not session:
            self._source = (session, self._source_of(session))
        header = await self._source[1].fresh_header()
        body = json.dumps({"payload": base64.b64encode(text).decode()})
        headers = {"Authorization": header, "Content-Type": "application/json"}
        url = SIGN_BLOB.format(account=email)
        try:
            async with session.post(url, data=body, headers=headers, raise_for_status=True) as answer:
                return base64.b64decode((await answer.json())["signedBlob"])
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            if isinstance(error, StorageError):
                raise
            raise refused(error) from error

    def _source_of(self, session: aiohttp.ClientSession) -> Credentials | StaticToken:
        # Not the impersonated account's token: an account need not be allowed to sign as itself.
        if self._options.token is not None:
            return StaticToken(self._options.token)
        return Credentials(session, service_file=self._options.service_file, scope=PLATFORM_SCOPE)


def to_sign(method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> bytes:
    """Return what is signed for a request without a known body; `path` is encoded, the names of `headers` are lower."""
    lines = [f"{name}:{value.strip()}" for name, value in sorted(headers.items())]
    signed = ";".join(sorted(headers))
    canonical = "\n".join((method, path, _encoded(query), *lines, "", signed, "UNSIGNED-PAYLOAD"))
    _, _, scope = query["X-Goog-Credential"].partition("/")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{_ALGORITHM}\n{query['X-Goog-Date']}\n{scope}\n{digest}".encode()


def _encoded(query: dict[str, str]) -> str:
    return urlencode(sorted(query.items()), quote_via=quote, safe="")


def _authority(root: URL) -> str:
    return root.host_port_subcomponent or ""


def _read_account(path: str) -> tuple[str, rsa.RSAPrivateKey]:
    try:
        account = json.loads(Path(path).read_text(encoding="utf-8"))
        if account.get("type") == "service_account":
            key = serialization.load_pem_private_key(account["private_key"].encode(), password=None)
            if isinstance(key, rsa.RSAPrivateKey):
                return str(account["client_email"]), key
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise AuthenticationError(f"the credentials file {path!r} cannot be read: {type(error).__name__}") from error
    raise UnsupportedOperationError(
        f"the credentials file {path!r} holds no service account's key: give service_account_email to have IAM sign"
    )
