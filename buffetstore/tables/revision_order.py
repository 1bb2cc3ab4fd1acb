"""The order of the rows of one key where a table keeps revisions and their load times are equal.

Rows of a later version come later; within a version the order of `modification_time`, then of path, decides, and within
a file that of its rows. A rewritten file takes the place of the rows in it: it carries their version in a tag. So do
the files of a checkpoint, which would lose it otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.tables.actions import Metadata

REVISIONS: Final = "buffetstore.revisions"
VERSION_TAG: Final = "buffetstore.version"


def keeps_revisions(metadata: Metadata) -> bool:
    """Return whether the table may hold several rows of a key, of which the order matters."""
    return metadata.configuration.get(REVISIONS) == "keep"


def version_tag(version: int | None) -> dict[str, str]:
    """Return the tag that keeps a version with its file; -1 is a version that is not known any more."""
    return {VERSION_TAG: str(-1 if version is None else version)}


def kept_tags(metadata: Metadata, file: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags under which a file's rows, or what is left of them, are committed again."""
    tags = dict(file["tags"] or ())
    return {**version_tag(file["commit_version"]), **tags} if keeps_revisions(metadata) else tags


def versions_of(tags: Any, committed: Any) -> Any:
    """Return the versions of the files' rows: by tag, else by the commit that added the file, where that is known."""
    names = tags.combine_chunks() if isinstance(tags, pa.ChunkedArray) else tags
    names = pa.concat_arrays(names.chunks) if isinstance(names, pa.ChunkedArray) else names
    if not pc.any(pc.equal(names.keys, VERSION_TAG)).as_py():
        return committed
    tagged = pc.map_lookup(names, pa.scalar(VERSION_TAG, pa.string()), "first").cast(pa.int64())
    return pc.coalesce(tagged, committed)


def in_order(files: pa.Table) -> pa.Table:
    """Return the files in the order of their rows' revisions."""
    keys = pa.table(
        {
            "age": pc.fill_null(files["commit_version"], -1),
            "modified": files["modification_time"],
            "path": files["path"],
        }
    )
    return files.take(pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names]))
