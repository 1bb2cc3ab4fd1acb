from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid

import pytest
from botocore.session import get_session

PAGE = 10  # keys in one page of a listing: small, so that a test sees several

# One request at a time: moto answers 500 when an object is replaced while another thread looks at it.
SERVER = """
import threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def serve(environ, start_response):
    with lock:
        return [b"".join(app(environ, start_response))]

server = make_server("127.0.0.1", 0, serve, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def ended(process):
    """Give a process, and end it after."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def s3_endpoint():
    """Run moto's S3 server on a port of the system's choice; give its URL."""
    # A process of its own: a thread would share the interpreter's lock with the client under test.
    environment = os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)}
    command = [sys.executable, "-c", SERVER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    with ended(process):
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


@pytest.fixture(scope="session")
def ministack_endpoint(tmp_path_factory):
    """Run ministack's S3, which verifies checksums and signatures; give its URL."""
    folder = tmp_path_factory.mktemp("ministack")
    environment = os.environ | {
        "SERVICES": "s3",
        "AUTH": "true",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "S3_DATA_DIR": str(folder),
        "TMPDIR": str(folder),
    }
    command = [
        sys.executable,
        "-m",
        "hypercorn",
        "ministack.app:app",
        "-b",
        "127.0.0.1:0",
        "--access-logfile",
        os.devnull,
    ]
    with (
        (folder / "output").open("w+") as output,
        ended(subprocess.Popen(command, stdout=output, stderr=output, env=environment)) as process,
    ):
        deadline = time.monotonic() + 30
        while not (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", (folder / "output").read_text())):
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, (folder / "output").read_text()
            time.sleep(0.05)
        yield found[1]


CEPH = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
CEPH_CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}]
public addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
crash dir = {folder}
admin socket =
pid file =
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
ms bind msgr1 = false
mon data avail warn = 0
mon data avail crit = 0
mon max pg per osd = 10000
mon allow pool size one = true
paxos propose interval = 0.05
paxos min wait = 0.01
osd objectstore = memstore
memstore device bytes = 2147483648
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def ceph_endpoint(tmp_path_factory):
    """Run Ceph's gateway over a monitor and one store in memory; give its URL. Its keys are those of `options`."""
    missing = [program for program in CEPH if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs a Ceph gateway, run by root: {', '.join(missing) or 'not root'}")
    folder, uid, rgw = tmp_path_factory.mktemp("ceph"), str(uuid.uuid4()), free_port()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    mon = free_port()
    (folder / "ceph.conf").write_text(CEPH_CONF.format(folder=folder, fsid=uuid.uuid4(), mon=mon, rgw=rgw))
    environment = os.environ | {"CEPH_CONF": str(folder / "ceph.conf")}
    keyring, monmap = str(folder / "keyring"), str(folder / "monmap")

    def run(command):
        arguments = command.split()
        subprocess.run(arguments, env=environment, capture_output=True, check=True, timeout=60)

    def start(stack, command):
        output = stack.enter_context((folder / f"{command.partition(' ')[0]}.output").open("w"))
        process = subprocess.Popen([*command.split(), "-f"], env=environment, stdout=output, stderr=output)
        return stack.enter_context(ended(process))

    every = " ".join(f"--cap {service} allow_all" for service in ("mon", "osd", "mgr"))
    for number, name in enumerate(("mon.", "client.admin", "osd.0", "client.rgw")):
        new = ["--create-keyring"] if number == 0 else []
        command = ["ceph-authtool", *new, keyring, "--gen-key", "-n", name]
        subprocess.run(
            [*command, *(word.replace("allow_all", "allow *") for word in every.split())],
            env=environment, capture_output=True, check=True,
        )  # fmt: skip
    run(f"monmaptool --create --addv a [v2:127.0.0.1:{mon}] {monmap}")
    run(f"ceph-mon --mkfs -i a --monmap {monmap} --keyring {keyring}")
    with contextlib.ExitStack() as stack:
        start(stack, "ceph-mon -i a")
        run(f"ceph osd new {uid}")
        run(f"ceph-osd -i 0 --mkfs --osd-uuid {uid}")
        start(stack, "ceph-osd -i 0")
        run("radosgw-admin user create --uid test --display-name test --access-key test --secret test")
        gateway = start(stack, "radosgw -n client.rgw")
        deadline = time.monotonic() + 60
        while True:
            assert gateway.poll() is None, (folder / "radosgw.output").read_text()
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{rgw}", timeout=5).close()
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{rgw}"


@contextlib.contextmanager
def client_of(endpoint):
    """Give botocore's own blocking client: makes buckets, and looks at what the store did."""
    client = get_session().create_client(
        "s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    yield client
    client.close()


@pytest.fixture(scope="session")
def admin(s3_endpoint):
    with client_of(s3_endpoint) as client:
        yield client


@pytest.fixture(scope="session")
def ministack_admin(ministack_endpoint):
    with client_of(ministack_endpoint) as client:
        yield client


@pytest.fixture(scope="session")
def ceph_admin(ceph_endpoint):
    with client_of(ceph_endpoint) as client:
        yield client


numbers = itertools.count()


@pytest.fixture
def bucket(admin):
    """Make a bucket that no other test uses."""
    return new_bucket(admin)


@pytest.fixture
def ministack_bucket(ministack_admin):
    return new_bucket(ministack_admin)


@pytest.fixture
def ceph_bucket(ceph_admin):
    return new_bucket(ceph_admin)


def new_bucket(client):
    name = f"bucket-{next(numbers)}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def options(s3_endpoint):
    return options_of(s3_endpoint)


@pytest.fixture
def ministack_options(ministack_endpoint):
    return options_of(ministack_endpoint)


@pytest.fixture
def ceph_options(ceph_endpoint):
    return options_of(ceph_endpoint) | {"conditional": "puts"}


def options_of(endpoint):
    return {"endpoint_url": endpoint, "access_key": "test", "secret_key": "test", "region": "us-east-1"}
