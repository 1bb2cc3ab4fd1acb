"""Entries parsed as columns say what they say line by line; what only one of both understands goes to that one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.errors import CorruptLogError
from buffetstore.tables import log
from buffetstore.tables.actions import encode_path
from buffetstore.tables.log import parse_entries
from buffetstore.tables.log_columns import AddColumns
from buffetstore.tables.log_lines import parse

NAMES = st.sampled_from(["a.parquet", "é/日経 225", "x%y z", "p=1/b#", "😀\u2028", 'q"\\', "plain-0001.snappy.parquet"])
PATHS = NAMES.map(encode_path) | st.sampled_from(["part-%E6%97%A5.parquet", "a%2520b", "file:/tmp/x", "/tmp/x"])
VALUES = st.none() | st.sampled_from(["", "2024-01-01", "x y", "日", "1.5"])
VECTOR = st.fixed_dictionaries(
    {"storageType": st.just("u"), "pathOrInlineDv": st.just("ab^-aqEH.-t@S}K{vb[*k^"), "sizeInBytes": st.just(40)},
    optional={"cardinality": st.integers(1, 6), "offset": st.integers(0, 9), "maxRowIndex": st.integers(0, 9)},
)
STATS = st.sampled_from(
    [None, '{"numRecords":3,"minValues":{"k":1}}', "", "{\n}", '{"minValues":{"s":"\\u00e9\\"x"}}', "日\t\x7f"]
)
SIZES = st.integers(0, 2**63 - 1) | st.just(2**63) | st.just(-1)
FIELDS = {
    "clusteringProvider": st.just("liquid"),
    "defaultRowCommitVersion": st.integers(0, 9),
    "notInTheProtocol": st.sampled_from([None, 1, {"a": []}]),
}


@st.composite
def maps(draw, names):
    return {name: draw(VALUES) for name in names}


@st.composite
def file_actions(draw, partitions):
    common = {"path": draw(PATHS), "dataChange": draw(st.booleans())}
    optional = {
        "partitionValues": maps(partitions),
        "tags": st.dictionaries(st.sampled_from(["t", "u"]), st.sampled_from(["", "v", "日"])) | st.none(),
        "deletionVector": VECTOR | st.none(),
        "baseRowId": st.integers(0, 9),
    }
    few = FIELDS if draw(st.integers(0, 5)) == 0 else {}
    body = common | draw(st.fixed_dictionaries({}, optional=optional | few))
    body = {name: body[name] for name in draw(st.permutations(sorted(body)))}
    match draw(st.integers(0, 9)):
        case 0:
            return {"cdc": {"path": body["path"], "size": 1, "partitionValues": {}, "dataChange": False}}
        case 1 | 2 | 3:
            extra = st.fixed_dictionaries(
                {}, optional={"deletionTimestamp": st.integers(0, 2**40), "size": st.integers(0, 2**40)}
            )
            return {"remove": body | draw(extra)}
        case _:
            sized = {"size": draw(SIZES), "modificationTime": draw(st.integers(0, 2**40))}
            return {"add": body | sized | draw(st.fixed_dictionaries({}, optional={"stats": STATS}))}


OTHERS = st.sampled_from(
    [
        {"commitInfo": {"timestamp": 1, "operation": "WRITE", "operationParameters": {"mode": "Append"}, "txnId": "7"}},
        {"txn": {"appId": "a", "version": 3}},
        {"txn": {"appId": "a", "version": 4}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"domainMetadata": {"domain": "d", "configuration": "", "removed": False}},
        {"add": None, "txn": {"appId": "b", "version": 1}},
    ]
)


@st.composite
def entries(draw):
    partitions = draw(st.sampled_from([[], ["p"], ["p", "q r"]]))
    files = draw(st.lists(file_actions(partitions), min_size=1, max_size=6))
    lines = [*draw(st.lists(OTHERS, max_size=3)), *files, *draw(st.lists(OTHERS, max_size=2))]
    ascii_only = draw(st.booleans())
    texts = [json.dumps(line, ensure_ascii=ascii_only, separators=(",", ":")) for line in lines]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return (end.join(texts) + draw(st.sampled_from(["", end]))).encode()


def comparable(entry):
    """A key that is absent from a map says as much as one without a value."""

    def plain(action):
        given = {name: value for name, value in dict(action.partition_values or {}).items() if value is not None}
        action = replace(action, partition_values=given)
        if hasattr(action, "tags"):
            action = replace(action, tags=dict(action.tags or {}))
        if getattr(action, "deletion_vector", None) is not None:
            vector = json.loads(action.deletion_vector)
            action = replace(action, deletion_vector=json.dumps(vector, sort_keys=True))
        return action

    return replace(
        entry,
        adds=tuple(map(plain, entry.adds)),
        removes=tuple(map(plain, entry.removes)),
        cdcs=tuple(map(plain, entry.cdcs)),
    )


def by_line(data, version):
    return log._by_line(data, "t", version)


@settings(max_examples=300, deadline=None)
@given(st.lists(entries(), min_size=1, max_size=4))
def test_both_parsers_say_the_same(datas) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_LARGE", 0)
        found = parse_entries(datas, "t", range(len(datas)))
    assert [comparable(entry) for entry in found] == [comparable(by_line(data, n)) for n, data in enumerate(datas)]


@settings(max_examples=100, deadline=None)
@given(entries(), st.integers(1, 2000), st.sampled_from([b"", b"\n", b"}", b"\xff", b"\n\n", b"{}{}\n", b" \n"]))
def test_both_judge_damage_alike(data, cut, junk) -> None:
    damaged = data[: max(len(data) - cut, 0)] + junk

    def verdict(read):
        try:
            return comparable(read())
        except CorruptLogError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_LARGE", 0)
        found = verdict(lambda: parse_entries([damaged], "t", [5])[0])
    assert found == verdict(lambda: by_line(damaged, 5))


def add(**more):
    return {"path": "a", "partitionValues": {}, "size": 1, "modificationTime": 2, "dataChange": True} | more


def lines(*actions):
    return "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions).encode()


def test_what_writers_write_is_parsed_as_columns() -> None:
    info = {"commitInfo": {"timestamp": 1, "operation": "WRITE"}}
    spark = lines(info, {"add": add(path="b", tags={"t": "x"}, baseRowId=1)}, {"remove": {"path": "a", "tags": {}}})
    partitioned = lines({"add": add(partitionValues={"p": "1"})}, {"add": add(partitionValues={"p": None})}, info)
    parsed = parse([spark, partitioned, lines({"cdc": {"path": "c", "size": 1, "partitionValues": {}}}), lines(info)])
    assert parsed is not None
    assert [(len(each.adds), len(each.removes), len(each.cdcs), len(each.others)) for each in parsed] == [
        (1, 1, 0, 1),
        (2, 0, 0, 1),
        (0, 0, 1, 0),
        (0, 0, 0, 1),
    ]
    assert [each.partition_values["p"] for each in parsed[1].adds] == ["1", None]
    assert parsed[0].adds[0].path == parsed[0].adds[-1].path == "b"
    assert parsed[0].adds[:1][0].tags == {"t": "x"}
    with pytest.raises(IndexError):
        parsed[0].adds[1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        lines({"add": add()}) + b"\n" + lines({"add": add()}),
        lines({"add": add(), "remove": {"path": "a"}}),
        lines({"add": add(), "commitInfo": {}}),
        lines({"add": add(unheard_of=1)}),
        lines({"add": add()}, {"commitInfo": {}}, {"add": add()}),
        lines({"add": add(size=1.5)}),
        lines({"add": add(size="1")}),
        lines({"add": {"path": "a", "size": 1}}),
        lines({"add": add(partitionValues=[])}),
        lines({"remove": {"dataChange": True}}),
        lines({"add": add()}, {"add": add(partitionValues={"p": "1"})}, {"add": add()}),
        b'{"add":{"path":"\xff","partitionValues":{},"size":1,"modificationTime":2}}\n',
        b'{"add":{"path":"a","path":"b","size":1,"modificationTime":2}}\n',
        b'{"add":{"path":"a\\udc00","size":1,"modificationTime":2}}\n',
        b'{"add":{"path":"a\\ud800","size":1,"modificationTime":2}}\n',
        lines({"add": add(size=2**63)}),
        lines({"add": add(stats={"numRecords": 1})}),
        lines({"add": add()})[:-1] + lines({"add": add()}) + b" \n",
        lines({"add": add()})[:-1] + lines({"add": add()}),
    ],
)
def test_what_is_unusual_is_left_to_the_line_parser(data) -> None:
    assert parse([data]) is None


def test_a_field_that_only_a_later_line_has_is_read() -> None:
    plain = [{"add": add(path=f"{n}")} for n in range(9)]
    more = {"add": add(path="x", stats="{}", tags={}, baseRowId=1)}
    parsed = parse([lines(*plain, more, *plain), lines(*plain), lines(*plain, {"remove": {"path": "0"}}, *plain)])
    assert parsed is not None
    assert [add.stats for add in parsed[0].adds] == [None] * 9 + ["{}"] + [None] * 9
    assert [remove.path for remove in parsed[2].removes] == ["0"]


@pytest.mark.parametrize("rows", [1, 2000])
def test_a_large_entry_that_is_cut_off_is_named(rows) -> None:
    data = lines(*({"add": add(path=f"{n:050}")} for n in range(rows)))[:-20]
    with pytest.raises(CorruptLogError, match=rf"version 7 of table 't' cannot be read: line {rows} of "):
        parse_entries([data], "t", [7])


def test_an_empty_entry_among_others_is_named() -> None:
    plain = lines(*({"add": add(path=f"{n:050}")} for n in range(1000)))
    with pytest.raises(CorruptLogError, match="version 8 of table 't' is empty"):
        parse_entries([plain, b"", plain], "t", [7, 8, 9])


def test_entries_whose_last_line_has_no_end_are_read_as_columns() -> None:
    first, second = (lines(*({"add": add(path=f"{kind}{n:050}")} for n in range(1000))) for kind in "ab")
    entries = parse_entries([first.rstrip(b"\n"), second, first.rstrip(b"\n")], "t", [1, 2, 3])
    assert [(len(entry.adds), entry.adds[999].path[0]) for entry in entries] == [(1000, "a"), (1000, "b"), (1000, "a")]
    assert all(isinstance(entry.adds, AddColumns) for entry in entries)
    (alone,) = parse_entries([first.rstrip(b"\n")], "t", [1])
    assert list(alone.adds) == list(entries[0].adds)
    assert isinstance(alone.adds, AddColumns)
