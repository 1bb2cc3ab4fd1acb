from __future__ import annotations

from datetime import UTC, datetime

import pytest

from buffetstore.objects.s3.xml import (
    ParseError,
    completion,
    deletion,
    error_of,
    failures_of,
    fields_of,
    page_of,
    tree,
    versions_of,
)

AWS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
STAMP = "2026-11-20T16:00:00.000Z"


def listing(keys, *, namespace=AWS, more=""):
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>{STAMP}</LastModified><ETag>&quot;e{at}&quot;</ETag><Size>{at}</Size>"
        "<Owner><ID>somebody</ID></Owner></Contents>"
        for at, key in enumerate(keys)
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f"{head}<ListBucketResult {namespace}>{more}{entries}</ListBucketResult>".encode()


@pytest.mark.parametrize("namespace", ["", AWS, AWS.replace('"', "'"), 'xmlns = "http://acs.amazonaws.com/doc/"'])
async def test_a_page_is_read_whatever_the_namespace(namespace):
    page = await page_of(listing(["p/a", "p/b&amp;c"], namespace=namespace), 2)
    assert [(meta.key, meta.size, meta.version) for meta in page.objects] == [("a", 0, "e0"), ("b&c", 1, "e1")]
    assert page.objects[0].last_modified == datetime(2026, 11, 20, 16, tzinfo=UTC)
    assert (page.prefixes, page.marks) == ([], None)


async def test_encoded_names_are_decoded_and_plain_ones_left():
    encoded = "<EncodingType>url</EncodingType><CommonPrefixes><Prefix>x+y%2Fz/</Prefix></CommonPrefixes>"
    page = await page_of(listing(["a+b%2Bc%01%25", "%F0%9F%93%88"], more=encoded), 0)
    assert [meta.key for meta in page.objects] == ["a b+c\x01%", "📈"]
    assert page.prefixes == ["x y/z/"]
    page = await page_of(listing(["a+b%2B"]), 0)
    assert [meta.key for meta in page.objects] == ["a+b%2B"]


async def test_a_large_page_is_read_beside_the_event_loop():
    keys = [f"some/long/prefix/of/keys/that/fills/a/page/{number:06}" for number in range(1000)]
    body = listing(keys, more="<IsTruncated>true</IsTruncated><NextContinuationToken>t+1</NextContinuationToken>")
    assert len(body) > 128 * 1024
    page = await page_of(body, 0)
    assert [meta.key for meta in page.objects] == keys
    assert page.marks == [("continuation-token", "t+1")]


async def test_versions_that_come_apart_from_deletions_are_put_in_order():
    def version(tag, key, identity, second, *, latest=False):
        size = "" if tag == "DeleteMarker" else "<ETag>&quot;e&quot;</ETag><Size>3</Size>"
        return (
            f"<{tag}><Key>{key}</Key><VersionId>{identity}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"
            f"<LastModified>2026-11-20T16:00:0{second}.000Z</LastModified>{size}</{tag}>"
        )

    told = [
        version("Version", "a", "3", 4, latest=True),
        version("Version", "a", "1", 1),
        version("Version", "b", "4", 1),
        version("DeleteMarker", "a", "2", 2),
        version("DeleteMarker", "b", "5", 1, latest=True),
    ]
    marks = (
        "<IsTruncated>true</IsTruncated><NextKeyMarker>b</NextKeyMarker><NextVersionIdMarker>4</NextVersionIdMarker>"
    )
    page = await versions_of(f"<ListVersionsResult {AWS}>{marks}{''.join(told)}</ListVersionsResult>".encode(), 0)
    assert [each.id for each in page.versions] == ["3", "2", "1", "5", "4"]
    assert [each.is_deletion for each in page.versions] == [False, True, False, True, False]
    assert page.marks == [("key-marker", "b"), ("version-id-marker", "4")]


def test_an_error_is_told_from_an_answer():
    assert error_of(b"<Error><Code>SlowDown</Code><Message>slower</Message></Error>") == ("SlowDown", "slower")
    assert error_of(f"  \n<?xml version='1.0'?>\n<Error {AWS}><Code>X</Code></Error>".encode()) == ("X", "")
    assert error_of(b"<DeleteResult><Error><Code>X</Code></Error></DeleteResult>") is None
    assert error_of(b"") is None
    for broken in (b"<Error><Code>X</Code>", b"<ErrorPage"):
        with pytest.raises(ParseError):
            error_of(broken)


def test_blanks_before_an_answer_are_no_fault():
    body = b" " * 5000 + b"\n<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>"
    assert fields_of(body) == {"ETag": "e-2"}
    late = b'<?xml version="1.0" encoding="UTF-8"?>\n' + b" " * 5000
    assert error_of(late + f"<Error {AWS}><Code>InternalError</Code></Error>".encode()) == ("InternalError", "")
    assert fields_of(late + f"<Result {AWS}><ETag>e</ETag></Result>".encode()) == {"ETag": "e"}
    assert fields_of(b"  \n") == {}


def test_what_is_written_reads_back():
    names = ["a<b>&c", "ünï", " x "]
    assert [each.text for each in tree(deletion(names)).iterfind("Object/Key")] == names
    parts = [{"PartNumber": "1", "ETag": '"e&"'}, {"PartNumber": "2", "ETag": '"f"', "ChecksumCRC32": "AAA="}]
    read = [{field.tag: field.text for field in part} for part in tree(completion(parts))]
    assert read == parts


def test_failures_of_a_batch():
    failed = "<Error><Key>k&amp;l</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    assert failures_of(f"<DeleteResult {AWS}><Deleted/>{failed}</DeleteResult>".encode()) == [
        ("k&l", "AccessDenied", "no")
    ]
    assert failures_of(b"<DeleteResult/>") == []


def test_entities_that_explode_are_refused():
    nested = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    with pytest.raises(ParseError):
        tree(f'<!DOCTYPE Error [<!ENTITY e0 "lol">{nested}]><Error>&e11;</Error>'.encode())
