"""The actions of the Delta log as values, to and from JSON. Source: Delta protocol, "Actions"."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def encode_path(path: str) -> str:
    """Return a path inside the table as the log writes it: a URI (RFC 2396), percent-encoded."""
    return quote(path, safe="/=~!$'()*,")


def decode_path(log_path: str) -> str:
    """Return the path inside the table that the log's URI names, or an absolute path (`/...` or `scheme://...`)."""
    path = unquote(log_path) if "%" in log_path else log_path
    # "/a", "file:/a" and "file:///a" are one file.
    return "/" + path.removeprefix("file:").lstrip("/") if path.startswith(("file:", "/")) else path


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a reader and a writer must understand."""

    min_reader_version: int = 1
    min_writer_version: int = 2
    reader_features: tuple[str, ...] = ()
    writer_features: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Protocol:
        """Read the body of a `protocol` action."""
        return cls(
            body["minReaderVersion"],
            body["minWriterVersion"],
            tuple(body.get("readerFeatures") or ()),
            tuple(body.get("writerFeatures") or ()),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the action as it stands in the log."""
        body: dict[str, Any] = {
            "minReaderVersion": self.min_reader_version,
            "minWriterVersion": self.min_writer_version,
        }
        if self.min_reader_version >= 3:
            body["readerFeatures"] = list(self.reader_features)
        if self.min_writer_version >= 7:
            body["writerFeatures"] = list(self.writer_features)
        return {"protocol": body}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the table is: its id, schema, partition columns and configuration. `created_time` is in milliseconds."""

    id: str
    schema_string: str
    partition_columns: tuple[str, ...] = ()
    configuration: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    description: str | None = None
    created_time: int | None = None
    provider: str = "parquet"

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Metadata:
        """Read the body of a `metaData` action."""
        return cls(
            body["id"],
            body.get("schemaString") or "",
            tuple(body.get("partitionColumns") or ()),
            _pairs(body.get("configuration")),
            body.get("name"),
            body.get("description"),
            body.get("createdTime"),
            (body.get("format") or {}).get("provider") or "parquet",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the action as it stands in the log."""
        body = {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "format": {"provider": self.provider, "options": {}},
            "schemaString": self.schema_string,
            "partitionColumns": list(self.partition_columns),
            "configuration": dict(self.configuration),
            "createdTime": self.created_time,
        }
        return {"metaData": {name: value for name, value in body.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class AddFile:
    """A data file of the table.

    `path` is decoded; `modification_time` is in milliseconds; `stats` and `deletion_vector` are JSON text.
    """

    path: str
    size: int
    modification_time: int
    partition_values: Mapping[str, str | None] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    stats: str | None = None
    data_change: bool = True
    log_path: str = ""
    deletion_vector: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> AddFile:
        """Read the body of an `add` action."""
        vector = body.get("deletionVector")
        return cls(
            decode_path(body["path"]),
            body["size"],
            body["modificationTime"],
            _pairs(body.get("partitionValues")),
            _pairs(body.get("tags")),
            body.get("stats"),
            body.get("dataChange", True),
            body["path"],
            json.dumps(vector) if vector else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the action as it stands in the log."""
        body: dict[str, Any] = {
            "path": self.log_path or encode_path(self.path),
            "partitionValues": dict(self.partition_values),
            "size": self.size,
            "modificationTime": self.modification_time,
            "dataChange": self.data_change,
        }
        if self.stats is not None:
            body["stats"] = self.stats
        if self.tags:
            body["tags"] = dict(self.tags)
        if self.deletion_vector is not None:
            body["deletionVector"] = json.loads(self.deletion_vector)
        return {"add": body}


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """A data file that is no longer of the table. `deletion_timestamp` is in milliseconds."""

    path: str
    deletion_timestamp: int | None = None
    data_change: bool = True
    partition_values: Mapping[str, str | None] | None = None
    size: int | None = None
    tags: Mapping[str, str] | None = None
    log_path: str = ""
    deletion_vector: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RemoveFile:
        """Read the body of a `remove` action."""
        vector = body.get("deletionVector")
        return cls(
            decode_path(body["path"]),
            body.get("deletionTimestamp"),
            body.get("dataChange", True),
            _pairs(body["partitionValues"]) if body.get("partitionValues") is not None else None,
            body.get("size"),
            _pairs(body["tags"]) if body.get("tags") is not None else None,
            body["path"],
            json.dumps(vector) if vector else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the action as it stands in the log."""
        body: dict[str, Any] = {"path": self.log_path or encode_path(self.path), "dataChange": self.data_change}
        if self.deletion_timestamp is not None:
            body["deletionTimestamp"] = self.deletion_timestamp
        if self.partition_values is not None and self.size is not None:
            body |= {
                "extendedFileMetadata": True,
                "partitionValues": dict(self.partition_values),
                "size": self.size,
            }
            if self.tags:
                body["tags"] = dict(self.tags)
        if self.deletion_vector is not None:
            body["deletionVector"] = json.loads(self.deletion_vector)
        return {"remove": body}


@dataclass(frozen=True, slots=True)
class CdcFile:
    """A file with the rows that a commit changed. Source: Delta protocol, "Add CDC File"."""

    path: str
    size: int
    partition_values: Mapping[str, str | None] = field(default_factory=dict)
    log_path: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> CdcFile:
        """Read the body of a `cdc` action."""
        return cls(decode_path(body["path"]), body["size"], _pairs(body.get("partitionValues")), body["path"])

    def to_json(self) -> dict[str, Any]:
        """Return the action as it stands in the log."""
        body = {
            "path": self.log_path or encode_path(self.path),
            "partitionValues": dict(self.partition_values),
            "size": self.size,
            "dataChange": False,
        }
        return {"cdc": body}


@dataclass(frozen=True, slots=True)
class Txn:
    """How far an application has come: a write with the same or a lower version has been done already."""

    app_id: str
    version: int
    last_updated: int | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Txn:
        """Read the body of a `txn` action."""
        return cls(body["appId"], body["version"], body.get("lastUpdated"))

    def to_json(self) -> dict[str, Any]:
        """Return the action as it stands in the log."""
        body: dict[str, Any] = {"appId": self.app_id, "version": self.version}
        if self.last_updated is not None:
            body["lastUpdated"] = self.last_updated
        return {"txn": body}


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """Who did what, when. `commit_id` tells our commit from another one at the same version."""

    timestamp: int
    operation: str
    commit_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    read_version: int | None = None
    blind_append: bool = False
    engine: str | None = None
    user_metadata: str | None = None
    in_commit_timestamp: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> CommitInfo:
        """Read the body of a `commitInfo` action; everything in it is optional."""
        return cls(
            body.get("timestamp") or 0,
            body.get("operation") or "",
            body.get("txnId"),
            body.get("operationParameters") or {},
            body.get("readVersion"),
            bool(body.get("isBlindAppend")),
            body.get("engineInfo"),
            body.get("userMetadata"),
            body.get("inCommitTimestamp"),
            body.get("operationMetrics") or {},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the action as it stands in the log."""
        body = {
            "timestamp": self.timestamp,
            "operation": self.operation,
            "operationParameters": dict(self.parameters),
            "readVersion": self.read_version,
            "isBlindAppend": self.blind_append,
            "engineInfo": self.engine,
            "userMetadata": self.user_metadata,
            "txnId": self.commit_id,
            # Delta's own writers have them as texts.
            "operationMetrics": {name: str(count) for name, count in self.metrics.items()} or None,
        }
        return {"commitInfo": {name: value for name, value in body.items() if value is not None}}


Action: TypeAlias = Protocol | Metadata | AddFile | RemoveFile | CdcFile | Txn | CommitInfo

_READERS: Mapping[str, Any] = {
    "protocol": Protocol.from_json,
    "metaData": Metadata.from_json,
    "add": AddFile.from_json,
    "remove": RemoveFile.from_json,
    "cdc": CdcFile.from_json,
    "txn": Txn.from_json,
    "commitInfo": CommitInfo.from_json,
}


def read_action(entry: Mapping[str, Any]) -> Action | None:
    """Return the action of one line of the log; None for kinds that say nothing about a table's rows."""
    for name, body in entry.items():
        reader = _READERS.get(name)
        if reader is not None and body is not None:
            action: Action = reader(body)
            return action
    return None


def write_actions(actions: Iterable[Action]) -> bytes:
    """Return a log entry: one JSON document a line."""
    lines = (json.dumps(action.to_json(), separators=(",", ":"), ensure_ascii=False) for action in actions)
    return ("\n".join(lines) + "\n").encode()


def _pairs(value: Any) -> dict[str, Any]:
    # Maps are objects in JSON and lists of pairs in Arrow, hence in checkpoints.
    return dict(value) if value else {}
