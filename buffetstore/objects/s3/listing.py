"""Listings of a bucket, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.objects.s3.errors import Call, understood
from buffetstore.objects.s3.xml import page_of, versions_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.objects.s3.connection import S3Connection
    from buffetstore.objects.s3.xml import Page, VersionsPage


class Lister:
    """Asks for pages of the objects, or of their versions, whose names begin with `root`.

    Parameters
    ----------
    root:
        The store's own prefix in the bucket; keys are told without it.
    page_size:
        What is asked for at once; None leaves it to the service.
    """

    def __init__(self, connection: S3Connection, root: str, page_size: int | None) -> None:
        self._connection = connection
        self._root = root
        # Names that XML cannot carry come encoded.
        self._common = [("encoding-type", "url")] + ([("max-keys", str(page_size))] if page_size else [])

    async def pages(self, prefix: str, *, after: str = "", delimiter: str = "") -> AsyncIterator[Page]:
        """Yield the pages of a listing."""
        call = Call("list_objects_v2", self._connection.url)
        query = [*self._common, ("list-type", "2"), *self._given(prefix=prefix, delimiter=delimiter)]
        marks = [("start-after", self._root + after)] if after else []
        while True:
            answer = await self._connection.ask(call, "GET", query=query + marks)
            with understood(call):
                page = await page_of(answer.body, len(self._root))
            yield page
            if page.marks is None:
                return
            marks = list(page.marks)

    async def versions(self, prefix: str) -> AsyncIterator[VersionsPage]:
        """Yield the pages of a listing of versions."""
        call = Call("list_object_versions", self._connection.url)
        query = [*self._common, ("versions", ""), *self._given(prefix=prefix, delimiter="")]
        marks: list[tuple[str, str]] = []
        while True:
            answer = await self._connection.ask(call, "GET", query=query + marks)
            with understood(call):
                page = await versions_of(answer.body, len(self._root))
            yield page
            if page.marks is None:
                return
            marks = list(page.marks)

    def _given(self, *, prefix: str, delimiter: str) -> list[tuple[str, str]]:
        given = [("prefix", self._root + prefix), ("delimiter", delimiter)]
        return [(name, value) for name, value in given if value]
