"""What travels in headers: names, values, signatures."""

from __future__ import annotations

import asyncio
from functools import cmp_to_key

import pytest
from azure.storage.blob._shared.authentication import compare
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import InvalidInputError, NotFoundError, PreconditionFailedError
from buffetstore.objects.azure.auth import Request, SharedKey, _collated
from buffetstore.objects.azure.wire import (
    described,
    metadata_name,
    page_of,
    plain_name,
    quoted,
    received,
)
from buffetstore.objects.base import Attributes

NAMES = st.text("abz019-", min_size=1, max_size=8)
HEADERS = ["x-ms-blob-type", "x-ms-blob-content-type", "x-ms-blob-content-md5", "x-ms-date", "x-ms-version"]


@given(NAMES)
def test_a_metadata_name_comes_back_and_is_an_identifier(name):
    assert plain_name(metadata_name(name)) == name
    assert metadata_name(name).isidentifier()


@given(st.lists(NAMES, unique=True))
def test_two_names_are_never_one(names):
    assert len({metadata_name(name) for name in names}) == len(names)


@given(st.lists(NAMES, unique=True))
def test_headers_are_signed_in_the_order_of_the_service(names):
    """The SDK emulates the service's order with tables of weights."""
    headers = [*HEADERS, *(f"x-ms-meta-{metadata_name(name)}" for name in names)]
    assert sorted(headers, key=_collated) == sorted(headers, key=cmp_to_key(compare))


@pytest.mark.parametrize(
    "attributes",
    [
        Attributes(metadata={"Upper": "x"}),
        Attributes(metadata={"under_score": "x"}),
        Attributes(metadata={"": "x"}),
        Attributes(content_type="text/plain\r\nx-evil: 1"),
        Attributes(storage_class="Hot\n"),
    ],
)
def test_what_no_header_can_carry_is_refused(attributes):
    with pytest.raises(InvalidInputError):
        described(attributes)


@pytest.mark.parametrize("version", ["", 'a"b', "a b", "é", "a\r\nb"])
def test_what_is_no_etag_is_no_version(version):
    with pytest.raises(PreconditionFailedError):
        quoted(version, "k")


def test_a_request_is_signed_as_documented():
    key = SharedKey("acct", "a2V5", clock=lambda: 0.0)
    headers = {"x-ms-version": "2021-12-02", "content-length": "0", "if-match": '"1"'}
    request = Request("PUT", "/c/k%20y", {"comp": "block", "BlockId": "a=="}, headers)
    asyncio.run(key.sign(request))
    assert key.string_to_sign(request) == (
        'PUT\n\n\n\n\n\n\n\n"1"\n\n\n\n'
        "x-ms-date:Thu, 01 Jan 1970 00:00:00 GMT\nx-ms-version:2021-12-02\n/acct/c/k%20y\nblockid:a==\ncomp:block"
    )
    assert request.headers["Authorization"].startswith("SharedKey acct:")


def test_a_directory_of_a_hierarchical_namespace_is_no_object():
    headers = {"Content-Length": "0", "ETag": '"1"', "Last-Modified": "Fri, 20 Nov 2026 00:00:00 GMT"}
    assert received(headers, "a", "az://c", is_part=False).meta.size == 0
    with pytest.raises(NotFoundError, match="directory"):
        received(headers | {"X-Ms-Meta-Hdi_isfolder": "true"}, "a", "az://c", is_part=False)


def entry(name, kind="", more=""):
    properties = "<Etag>0x1</Etag><Content-Length>2</Content-Length><Last-Modified>Fri, 20 Nov 2026 00:00:00 GMT"
    return f"<Blob>{name}{more}<Properties>{properties}</Last-Modified>{kind}</Properties></Blob>"


async def test_what_a_page_says():
    blobs = [
        entry("<Name>a/k</Name>", "<Content-MD5>x==</Content-MD5><ResourceType>file</ResourceType>"),
        entry('<Name Encoded="true">b%EF%BF%BF</Name>'),
        entry("<Name>folder</Name>", "<ResourceType>directory</ResourceType>"),
        entry("<Name>marker/</Name>"),
        "<BlobPrefix><Name>p/</Name></BlobPrefix>",
    ]
    page = await page_of(
        f"<EnumerationResults><Blobs>{''.join(blobs)}</Blobs><NextMarker>m</NextMarker></EnumerationResults>".encode()
    )
    assert [meta.key for meta in page.objects] == ["a/k", "b\uffff"]
    assert page.objects[0].checksum.value == "x=="
    assert page.objects[1].checksum is None
    assert (page.prefixes, page.marker, page.is_hierarchical) == (["p/"], "m", True)
