from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest

from buffetstore.config import GCSConfig

TERRAFORM = Path(__file__).parents[2] / "terraform"
MODULE, ROOT = TERRAFORM / "modules" / "gcs", TERRAFORM / "gcs"
# How a process connects and writes is its own business, not the deployment's.
OURS = {"max_connections", "retry_attempts", "timeout_seconds", "compression", "credentials_file", "emulator_host"}


def blocks(folder, kind):
    """Return the body of every block of `kind` in `folder` by its labels, joined by dots."""
    found = {}
    for file in sorted(folder.glob("*.tf")):
        for block in hcl2.loads(file.read_text()).get(kind, []):
            labels, body = [], block
            while len(body) == 1 and isinstance(next(iter(body.values())), dict):
                label, body = next(iter(body.items()))
                labels.append(label.strip('"'))
            found[".".join(labels)] = body
    return found


def text(value):
    return str(value).strip('"')


def test_outputs_are_the_fields_of_the_configuration():
    fields = set(GCSConfig.model_fields) - OURS

    assert set(blocks(MODULE, "output")) == fields
    assert {name: text(body["value"]) for name, body in blocks(ROOT, "output").items()} == {
        field: f"${{module.storage.{field}}}" for field in fields
    }


def test_the_root_passes_every_variable_on_unchanged():
    inner, outer = blocks(MODULE, "variable"), blocks(ROOT, "variable")
    passed = {name: text(value) for name, value in blocks(ROOT, "module")["storage"].items() if name in inner}

    assert passed == {name: f"${{var.{name}}}" for name in inner}
    assert set(outer) == set(inner)
    for name, body in inner.items():
        assert {key: outer[name].get(key) for key in ("type", "default")} == {
            key: body.get(key) for key in ("type", "default")
        }


def test_every_variable_and_output_says_what_it_is():
    for folder in (MODULE, ROOT):
        for body in (blocks(folder, "variable") | blocks(folder, "output")).values():
            assert len(text(body["description"])) > 10


def test_the_four_buckets_are_closed_to_the_public_and_emptied_as_they_should_be():
    bucket = blocks(MODULE, "resource")["google_storage_bucket.this"]
    local = blocks(MODULE, "locals")[""]

    assert bucket["uniform_bucket_level_access"] is True
    assert text(bucket["public_access_prevention"]) == "enforced"
    assert set(local["buckets"]) - {"__is_block__"} == {"data", "archive", "backup", "temp"}
    assert local["buckets"]["data"]["versioning"] is True
    assert local["buckets"]["temp"]["versioning"] is False
    assert local["delete_rules"]["temp"] == [{"age": 1, "days_noncurrent": None}]
    assert local["delete_rules"]["data"] == [{"age": None, "days_noncurrent": "${var.noncurrent_days}"}]


def test_the_service_account_is_bound_to_the_buckets_alone():
    resources = blocks(MODULE, "resource")

    assert not [name for name in resources if name.startswith("google_project_iam")]
    assert text(resources["google_storage_bucket_iam_member.objects"]["role"]) == "roles/storage.objectUser"


def test_files_are_formatted():
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("needs terraform on the PATH")
    command = [terraform, f"-chdir={TERRAFORM}", "fmt", "-check", "-diff", "-recursive"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
