"""The stored form of a contract: what its JSON looks like, field by field. Anything else is refused."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FieldDocument(_Part):
    """One column; `type` is a word such as ``string``, ``decimal(18,8)``, ``list`` or ``struct``."""

    name: str = Field(min_length=1)
    type: str
    nullable: bool = False
    filled: bool = False
    default: Any = None
    constraints: list[dict[str, Any]] = []
    choices: list[str] | None = None
    spellings: list[str] = []
    unit: str | None = None
    sensitivity: str | None = None
    aliases: list[str] = []
    description: str = ""
    element: FieldDocument | None = None
    fields: list[FieldDocument] | None = None


class RuleDocument(_Part):
    """A rule across columns; `holds` is a predicate as `json_values` writes it."""

    name: str = Field(min_length=1)
    field: str
    holds: dict[str, Any]
    message: str
    severity: Literal["error", "warning"] = "error"


class FillDocument(_Part):
    """A step that completes rows: two columns that mean the same, or a step by name."""

    same: list[str] | None = Field(default=None, min_length=2, max_length=2)
    built_in: str | None = None


class CustomDocument(_Part):
    """Code that the document can only name."""

    kind: Literal["validator", "fill", "spelling", "upcast"]
    name: str
    field: str = ""


class ContractDocument(_Part):
    """A data type at one schema version."""

    format_version: Literal[1]
    data_type: str = Field(min_length=1)
    version: str
    key: list[str] = Field(min_length=1)
    event_time: str
    load_time: Literal["created_at"]
    knowledge_time: Literal["available_at"]
    availability: Literal["observed", "asserted"]
    revisions: Literal["replace", "keep", "append"]
    symbol: str | None = None
    category: str
    partition_by: list[str] = []
    sort_by: list[str]
    fields: list[FieldDocument] = Field(min_length=1)
    rules: list[RuleDocument] = []
    fills: list[FillDocument] = []
    custom: list[CustomDocument] = []
    owner: str | None = None
    freshness_seconds: float | None = None
    completeness: float | None = None
    quality: list[dict[str, Any]] = []
    description: str = ""
