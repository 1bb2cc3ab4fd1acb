"""Listings of a container, page by page."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from buffetstore.errors import InvalidInputError, UnsupportedOperationError
from buffetstore.objects.azure.client import API_VERSION
from buffetstore.objects.azure.errors import Call, mapped
from buffetstore.objects.azure.order import ByteOrder, start_from
from buffetstore.objects.azure.wire import page_of
from buffetstore.objects.base import Listing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.objects.azure.client import AzureClient
    from buffetstore.objects.azure.wire import Page
    from buffetstore.objects.base import ObjectMeta, ObjectVersion

START_FROM_VERSION = "2026-02-06"  # of the API, the first whose listings begin where they are told


class Lister:
    """Lists objects, levels and versions."""

    def __init__(self, client: AzureClient) -> None:
        self._client = client
        self._can_start = True

    async def objects(self, prefix: str, after: str) -> AsyncIterator[ObjectMeta]:
        """Yield the objects whose key begins with `prefix` and sorts after `after`."""
        beyond = after.encode()
        order: ByteOrder | None = None
        async for page in self._pages(prefix, start=start_from(prefix, after)):
            if order is None:
                order = ByteOrder(prefix, is_hierarchical=page.is_hierarchical)
            for found in page.objects:
                if found.key.encode() > beyond:
                    for meta in order.add(found):
                        yield meta
        if order is not None:
            for meta in order.rest():
                yield meta

    async def level(self, prefix: str) -> Listing:
        """Return what is directly below `prefix`."""
        objects: list[ObjectMeta] = []
        prefixes: set[str] = set()  # a page may end between the objects of one
        async for page in self._pages(prefix, {"delimiter": "/"}):
            objects += page.objects
            prefixes.update(page.prefixes)
        return Listing(
            sorted(objects, key=lambda meta: meta.key.encode()), sorted(prefixes, key=lambda name: name.encode())
        )

    async def versions(self, prefix: str) -> AsyncIterator[ObjectVersion]:
        """Yield every version below `prefix`, the newest of a key first."""
        pending: list[ObjectVersion] = []
        async for page in self._pages(prefix, {"include": "versions"}):
            for key, found in groupby(page.versions, lambda version: version.meta.key):
                group = list(found)
                if pending and pending[0].meta.key != key:
                    for version in _newest_first(pending):
                        yield version
                    pending = []
                if not all(version.id for version in group):
                    raise UnsupportedOperationError(
                        f"{self._client.place.url} keeps no versions: turn on blob versioning for the account", key=key
                    )
                pending += group
        for version in _newest_first(pending):
            yield version

    async def _pages(self, prefix: str, extra: dict[str, str] | None = None, *, start: str = "") -> AsyncIterator[Page]:
        query = {
            "restype": "container",
            "comp": "list",
            "maxresults": str(self._client.options.page_size),
            **({"prefix": prefix} if prefix else {}),
            **(extra or {}),
        }
        first = await self._first(query, start)
        yield first
        marker = first.marker
        while marker:
            page = await self._page({**query, "marker": marker})
            yield page
            marker = page.marker

    async def _first(self, query: dict[str, str], start: str) -> Page:
        if start and self._can_start:
            try:
                return await self._page({**query, "startFrom": start}, START_FROM_VERSION)
            except InvalidInputError:  # a service that does not know that version, or the parameter
                self._can_start = False
        return await self._page(query)

    async def _page(self, query: dict[str, str], version: str = API_VERSION) -> Page:
        call = Call("list_blobs", self._client.place.url)
        _, body = await self._client.request(call, "GET", self._client.path(), query=query, version=version)
        with mapped(call):
            return await page_of(body)


def _newest_first(versions: list[ObjectVersion]) -> list[ObjectVersion]:
    # An id is the moment of the write, in digits of one length.
    return sorted(versions, key=lambda version: version.id, reverse=True)
