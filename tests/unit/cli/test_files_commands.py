from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console

from buffetstore.cli import transfers
from buffetstore.cli.transfers import byte_bar
from buffetstore.testing.gcs import serve_in_thread


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """The folder of the store that `--store` leaves out."""
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch):
    """A server with a bucket that keeps versions."""
    with serve_in_thread() as server:
        server.state.create_bucket("kept", {"versioning": {"enabled": True}})
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
        yield server


def test_up_and_down(cli, lake) -> None:
    Path("f.bin").write_bytes(b"12345")
    done = cli("files", "upload", "f.bin")
    assert (done.code, (lake / "f.bin").read_bytes()) == (0, b"12345")
    assert "lake/f.bin" in done.out
    assert "5 B" in done.out
    assert cli("files", "upload", "f.bin", "a/b/").code == 0
    assert (lake / "a/b/f.bin").exists()
    told = cli("files", "upload", "f.bin", "k", "--json").json
    assert (told["key"], told["bytes"]) == ("k", 5)
    assert cli("files", "download", "a/b/f.bin", "back").code == 0
    assert Path("back").read_bytes() == b"12345"
    Path("folder").mkdir()
    assert cli("files", "download", "a/b/f.bin", "folder", "--json").json["at"] == "folder/f.bin"
    Path("f.bin").unlink()
    assert cli("files", "download", "a/b/f.bin").code == 0
    assert Path("f.bin").read_bytes() == b"12345"


def test_what_goes_wrong_with_one_file(cli, lake) -> None:
    Path("f").write_bytes(b"1")
    assert cli("files", "upload", "f", "--new").code == 0
    done = cli("files", "upload", "f", "--new", "--json")
    assert (done.code, done.out) == (1, "")
    assert '"already_exists"' in done.err
    done = cli("files", "upload", "missing")
    assert done.code == 1
    assert "missing" in done.err
    done = cli("files", "download", "gone")
    assert done.code == 1
    assert "there is no object 'gone'" in done.err
    assert cli("files", "download", "f", "nowhere/f").code == 1
    assert cli("files", "upload", "f", "../f").code == 2


def test_copying_a_store(cli, filled, tmp_path: Path) -> None:
    done = cli("files", "copy", "lake", "copies/lake")
    assert done.code == 0, done.err
    assert "objects copied to file:" in done.out
    assert cli("query", "market_data", "--store", "copies/lake", "--json").json["rows"]
    again = cli("files", "copy", "lake", "copies/lake", "--json").json
    assert (again["copied"], again["failed"]) == (0, [])
    assert again["skipped"] > 1
    (tmp_path / "copies/lake/extra").write_bytes(b"")
    assert (
        cli("files", "copy", "lake", "copies/lake", "--prefix", "ex", "--delete-extra", "--json").json["deleted"] == 1
    )
    for how in ("read", "size"):
        assert cli("files", "copy", "lake", f"by-{how}", "--verify", how).code == 0


def test_a_copy_that_fails_in_part(cli, lake) -> None:
    for store, commit in (("lake", "ours"), ("other", "theirs")):
        log = Path(store, "t/_delta_log")
        log.mkdir(parents=True)
        (log / f"{0:020}.json").write_text(commit)
    Path("lake/file").write_text("copied all the same")
    done = cli("files", "copy", "lake", "other")
    assert done.code == 1
    assert "1 object copied" in done.out
    assert "is another commit" in done.err
    report = cli("files", "copy", "lake", "other", "--json")
    assert report.code == 1
    assert [(failure["key"], failure["code"]) for failure in report.json["failed"]] == [
        (f"t/_delta_log/{0:020}.json", "conflict")
    ]
    assert Path("other/t/_delta_log", f"{0:020}.json").read_text() == "theirs"


def test_a_copy_onto_itself_or_from_nowhere(cli, lake) -> None:
    done = cli("files", "copy", "lake", "lake/")
    assert done.code == 2
    assert "same store" in done.err
    assert cli("files", "copy", "nowhere", "other").code == 1
    assert cli("files", "copy", "gopher://x", "other").code == 2


def test_versions_are_listed_and_restored(cli, gcs) -> None:
    store = ("--store", "gs://kept")
    for body in ("one", "two"):
        Path("f").write_text(body)
        assert cli("files", "upload", "f", "k", *store).code == 0
    found = cli("files", "versions", "k", *store, "--json").json
    assert [(each["key"], each["bytes"], each["current"]) for each in found] == [("k", 3, True), ("k", 3, False)]
    listed = cli("files", "versions", *store).out
    assert found[1]["version"] in listed
    assert listed.count("current") == 1
    assert cli("files", "restore", "k", found[1]["version"], *store).code == 0
    cli("files", "download", "k", "back", *store)
    assert Path("back").read_text() == "one"
    assert cli("files", "restore", "k", "1", *store).code == 1
    assert "there are none" in cli("files", "versions", "z", *store).out


def test_where_no_versions_are_kept(cli, lake) -> None:
    done = cli("files", "versions")
    assert done.code == 1
    assert "has no list_versions" in done.err


def test_a_copy_to_a_cloud(cli, filled, gcs) -> None:
    assert cli("files", "copy", "lake", "gs://kept/lake", "--json").json["failed"] == []
    assert cli("query", "market_data", "--store", "gs://kept/lake", "--json").json["rows"]


def test_a_signed_url(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    store = ("--store", "s3://bucket/lake")
    done = cli("files", "sign", "a b", "--expires", "60", *store)
    assert done.code == 0, done.err
    url = urlsplit(done.out.strip())
    assert url.path.endswith("/lake/a%20b")
    assert parse_qs(url.query)["X-Amz-Expires"] == ["60"]
    told = cli("files", "sign", "k", "--method", "put", "--content-type", "text/csv", *store, "--json").json
    assert (told["method"], told["expires_seconds"]) == ("PUT", 3600)
    assert "content-type" in parse_qs(urlsplit(told["url"]).query)["X-Amz-SignedHeaders"][0]
    assert cli("files", "sign", "k", "--expires", "99999999", *store).code == 2
    done = cli("files", "sign", "k", "--store", "lake")
    assert done.code == 1
    assert "has no signed_url" in done.err


@pytest.mark.parametrize(
    ("terminal", "as_json", "shown"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_the_bar_is_for_people(monkeypatch, capsys, terminal, as_json, shown) -> None:
    monkeypatch.setattr(transfers, "err", Console(stderr=True, force_terminal=terminal, width=100))
    with byte_bar("up [x]", as_json=as_json) as tell:
        tell(500, 1000)
        tell(1000, 1000)
    said = capsys.readouterr()
    assert ("up [x]" in said.err) == shown
    assert ("1.0/1.0 kB" in said.err) == shown
    assert said.out == ""
