"""What a new table says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffetstore.storage.portable_rules import portable_rules
from buffetstore.tables.constraints import PREFIX as CONSTRAINT_PREFIX
from buffetstore.tables.properties import TRANSACTION_RETENTION
from buffetstore.tables.readers import READ_FEATURES, READABLE_BY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.schemas import Contract

IDEMPOTENCY_WINDOW = "interval 7 days"
"""How long a new table remembers the free texts that were used as idempotency keys."""


def table_configuration(contract: Contract, versions: Mapping[str, str], *, constraints: bool) -> dict[str, str]:
    """Return the configuration of a contract's new table; call it in a thread.

    Parameters
    ----------
    versions:
        What the table says of its schema versions.
    constraints:
        Give it the portable part of the contract's rules as CHECK constraints.
    """
    configuration = {
        **versions,
        "buffetstore.dataType": contract.data_type,
        "buffetstore.key": ",".join(contract.key),
        "buffetstore.revisions": contract.revisions,
        READABLE_BY: ",".join(READ_FEATURES),
        TRANSACTION_RETENTION: IDEMPOTENCY_WINDOW,
    }
    if constraints:
        checks = portable_rules(contract).checks
        configuration |= {f"{CONSTRAINT_PREFIX}{name}": sql for name, sql in checks.items()}
    return configuration


def facts_of(contract: Contract, configuration: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `DeltaTable.create` that follow from the contract."""
    return {
        "schema": contract.schema,
        "name": contract.data_type,
        "description": (contract.description or "").strip().split("\n", 1)[0] or None,
        "partition_by": contract.partition_by,
        "configuration": configuration,
    }
