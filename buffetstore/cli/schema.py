"""`buffetstore schema`: the versions of data types, compared, checked before a deploy, registered, exported."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer evaluates the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import FAILED, DataType, Json, Store, err, manager, out, print_json, run
from buffetstore.cli.drafts import draft_from_file
from buffetstore.cli.schema_source import contract_at, contracts_at_ref
from buffetstore.errors import IncompatibleSchemaError, InvalidInputError
from buffetstore.schemas import CompatibilityReport, Mode, SchemaManager, contract_document, fingerprint
from buffetstore.schemas.changes import diff as changes_between
from buffetstore.schemas.compatibility import check as check_compatibility
from buffetstore.schemas.interchange.formats import EXPORTS, IMPORTS, draft_from_document, export_contract

if TYPE_CHECKING:
    from buffetstore.schemas import Change, Contract, SchemaEntry

app = typer.Typer(help="Schema versions: list, compare, check, register, export and draft them.", no_args_is_help=True)

Path_ = Annotated[
    str,
    typer.Option("--path", help="The schema: pkg/module.py:Class, pkg.module:Class or contract.json."),
]
Version = Annotated[str | None, typer.Option("--version", help="The schema version; the newest by default.")]


@app.command("list")
def list_versions(
    data_type: Annotated[str | None, typer.Argument(help="Only this one.", show_default=False)] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """List the versions that a store holds: who registered each, when and why."""
    found = run(_entries(store, data_type))
    if as_json:
        print_json([_entry_facts(entry) for entry in found])
        return
    if not found:
        out.print("no version is registered here yet; the first write of a data type registers its own")
        return
    table = Table("data type", "version", "registered", "by", "why", box=None, padding=(0, 2))
    for entry in found:
        own = entry.contract
        when = f"{entry.registered_at:%Y-%m-%d %H:%M}"
        table.add_row(escape(own.data_type), own.version, when, escape(entry.registered_by), escape(entry.reason))
    out.print(table)


@app.command()
def show(data_type: DataType, version: Version = None, store: Store = None, as_json: Json = False) -> None:
    """Show what a version demands: of this program, else of the store."""
    contract = run(_contract(store, data_type, version))
    if as_json:
        print_json(contract_document(contract) | {"fingerprint": fingerprint(contract)})
        return
    out.print(f"[bold]{escape(contract.data_type)}[/] {contract.version}  [dim]key {', '.join(contract.key)}[/]")
    table = Table("column", "type", "null", "unit", "means", box=None, padding=(0, 2))
    for spec in contract.fields:
        null = "yes" if spec.nullable else ""
        table.add_row(escape(spec.name), str(spec.type), null, spec.unit or "", escape(spec.description))
    out.print(table)
    for rule in contract.rules:
        out.print(f"[dim]{rule.severity}[/] {escape(rule.name)}: {escape(rule.message)}")


@app.command()
def diff(
    data_type: DataType,
    old: Annotated[str, typer.Argument(help="A version.")],
    new: Annotated[str | None, typer.Argument(help="Another; the newest by default.", show_default=False)] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say what differs between two versions, and whom it breaks."""
    first, second = run(_contract(store, data_type, old)), run(_contract(store, data_type, new))
    found = changes_between(first, second)
    if as_json:
        print_json([_change_facts(change) for change in found])
        return
    out.print(f"[bold]{escape(data_type)}[/] {first.version} -> {second.version}")
    _print_changes(found)


@app.command()
def check(
    path: Path_,
    against_ref: Annotated[
        str | None, typer.Option(help="Check against the same file at this git commit: main.", show_default=False)
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="What must hold; by default the data type's own mode, else BACKWARD.")
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Tell whether a schema may follow the versions of a store, or of a git commit: exit code 1 where it may not."""
    contract = contract_at(path)
    try:
        report = (
            _against_ref(contract, path, against_ref, mode) if against_ref else run(_checked(store, contract, mode))
        )
        changes, reasons, facts = report.changes, list(report.reasons), _report_facts(report)
    except IncompatibleSchemaError as error:
        changes, reasons, facts = (), [str(error)], {"ok": False, "reasons": [str(error)]}
    told = {"data_type": contract.data_type, "version": contract.version, **facts}
    if as_json:
        print_json(told)
    else:
        out.print(f"[bold]{escape(contract.data_type)}[/] {contract.version}")
        _print_changes(changes)
        for reason in reasons:
            err.print(f"[bold red]no[/]  {escape(reason)}", soft_wrap=True)
        if not reasons:
            out.print("it may follow")
    if reasons:
        raise typer.Exit(FAILED)


@app.command()
def register(
    path: Path_,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    by: Annotated[str | None, typer.Option(help="Who; by default user@host.", show_default=False)] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Register a version in a store, and let the data type's table take its rows."""
    entry = run(_registered(store, contract_at(path), reason, by))
    if as_json:
        print_json(_entry_facts(entry))
        return
    own = entry.contract
    out.print(f"{escape(own.data_type)} {own.version} is registered, by {escape(entry.registered_by)}")


@app.command()
def export(
    data_type: Annotated[str | None, typer.Argument(help="Of this program or store.", show_default=False)] = None,
    form: Annotated[str, typer.Option("--format", help=", ".join(("json", *EXPORTS)))] = "json",
    version: Version = None,
    path: Annotated[str | None, typer.Option("--path", help="Or pkg/module.py:Class.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="A file; stdout by default.")] = None,
    store: Store = None,
) -> None:
    """Write a version as JSON (a contract's document), JSON Schema, Avro, SQL, ODCS or Markdown."""
    if (path is None) == (data_type is None):
        raise InvalidInputError("export what? Give a data type, or --path pkg/module.py:Class")
    contract = contract_at(path) if path is not None else run(_contract(store, str(data_type), version))
    if form == "json":
        text = json.dumps(contract_document(contract), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    else:
        text = export_contract(contract, form)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@app.command()
def infer(
    file: Annotated[Path, typer.Argument(help="A Parquet or Arrow file, a JSON Schema, an Avro schema (.avsc).")],
    data_type: Annotated[str, typer.Option("--type", "-t", help="The data type's name.")],
    form: Annotated[
        str | None, typer.Option("--format", help=f"Where the name does not tell: {', '.join(IMPORTS)}, arrow.")
    ] = None,
) -> None:
    """Draft a record class from data or from another schema, to be looked through and edited."""
    typer.echo(_draft_source(file, data_type, form), nl=False)


def _draft_source(file: Path, data_type: str, form: str | None) -> str:
    suffixes = {".parquet": "parquet", ".avsc": "avro", ".json": "json-schema", ".arrow": "arrow", ".feather": "arrow"}
    chosen = form or suffixes.get(file.suffix.lower())
    if chosen is None:
        raise InvalidInputError(f"{file}: of which format is it? Give --format {', '.join(IMPORTS)} or arrow")
    if chosen in {"parquet", "arrow"}:
        return draft_from_file(file, data_type, chosen).source()
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{file}: {error.strerror}") from error
    return draft_from_document(text, chosen, data_type).source()


async def _entries(store: str | None, data_type: str | None) -> list[SchemaEntry]:
    async with manager(store) as storage:
        names = [data_type] if data_type is not None else await storage.registry.data_types()
        return [entry for name in names for entry in await storage.registry.entries(name)]


async def _contract(store: str | None, data_type: str, version: str | None) -> Contract:
    """Return a contract of this program, else of the store."""
    known = SchemaManager()
    try:
        return known.contract(data_type, version)
    except InvalidInputError:
        async with manager(store, schema_manager=known) as storage:
            await storage.registry.load(data_type)
    return known.contract(data_type, version)


async def _checked(store: str | None, contract: Contract, mode: str | None) -> CompatibilityReport:
    async with manager(store) as storage:
        return await storage.registry.check(contract, mode)


async def _registered(store: str | None, contract: Contract, reason: str, by: str | None) -> SchemaEntry:
    async with manager(store) as storage:
        return await storage.registry.register(contract, reason=reason, by=by)


def _against_ref(contract: Contract, path: str, ref: str, mode: str | None) -> CompatibilityReport:
    history = contracts_at_ref(path, ref, contract.data_type)
    same = next((each for each in history if each.version == contract.version), None)
    if same is not None and fingerprint(same) != fingerprint(contract):
        changed = "; ".join(map(str, changes_between(same, contract))) or "the order of its columns"
        raise IncompatibleSchemaError(
            f"{contract.data_type} {contract.version} at {ref} demands something else: {changed}. A version never "
            "changes: give this one a version of its own"
        )
    return check_compatibility([each for each in history if each is not same], contract, mode or Mode.BACKWARD)


def _print_changes(found: Any) -> None:
    if not found:
        out.print("nothing differs")
    for change in found:
        broken = f"  [red]breaks {' and '.join(sorted(change.breaks))}[/]" if change.breaks else ""
        out.print(f"  {change.kind.value} [bold]{escape(change.subject)}[/] {escape(change.reason)}{broken}")


def _change_facts(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind.value,
        "subject": change.subject,
        "reason": change.reason,
        "breaks": sorted(change.breaks),
        "rewrites": change.rewrites,
    }


def _report_facts(report: CompatibilityReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "mode": report.mode.value,
        "reasons": list(report.reasons),
        "changes": [_change_facts(change) for change in report.changes],
        "suggested_version": report.suggested_version,
    }


def _entry_facts(entry: SchemaEntry) -> dict[str, Any]:
    return {
        "data_type": entry.contract.data_type,
        "version": entry.contract.version,
        "fingerprint": entry.fingerprint,
        "registered_at": entry.registered_at,
        "registered_by": entry.registered_by,
        "reason": entry.reason,
    }
