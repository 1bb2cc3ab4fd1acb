from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import asyncssh
import pytest

USER, PASSWORD = "analyst", "correct horse"

# In a process of its own: a thread would share the interpreter's lock with the client under test.
SERVER = """
import asyncio, errno, os, sys
import asyncssh

USER, PASSWORD, HOST_KEY, CLIENT_KEY, KIND = sys.argv[1:]


class Login(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return (username, password) == (USER, PASSWORD)


class Poor(asyncssh.sftp.SFTPServerHandler):
    _extensions = [(b"statvfs@openssh.com", b"2")]


if KIND == "poor":
    asyncssh.sftp.SFTPServerHandler._extensions = Poor._extensions


class Sick(asyncssh.SFTPServer):
    # Refuses names with "denied", has a full disk for what follows "full", and does not answer to "stall".

    def open(self, path, pflags, attrs):
        if b"denied" in path:
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        return super().open(path, pflags, attrs)

    def write(self, file, offset, data):
        if data.startswith(b"full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(file, offset, data)

    async def stat(self, path):
        if b"stall" in path:
            await asyncio.Event().wait()
        return super().stat(path)


FACTORY = Sick if KIND == "sick" else asyncssh.SFTPServer


async def main():
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Login, server_host_keys=[HOST_KEY], authorized_client_keys=CLIENT_KEY,
        sftp_factory=FACTORY,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
"""


class Keys(NamedTuple):
    """Files of keys, made for the tests."""

    host: Path
    client: Path
    stranger: Path


class Server(NamedTuple):
    """Where a server listens, and how to log in."""

    port: int
    process: subprocess.Popen
    options: dict
    login: tuple = (USER, PASSWORD)

    @property
    def url(self):
        return f"sftp://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    paths = Keys(folder / "host", folder / "client", folder / "stranger")
    for path in paths:
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(path)
        key.write_public_key(path.with_suffix(".pub"))
        path.chmod(0o600)
    return paths


def known_hosts(keys, port):
    """Write the file that trusts the server at `port`."""
    path = keys.host.with_name(f"known_hosts-{port}")
    path.write_text(f"[127.0.0.1]:{port} {keys.host.with_suffix('.pub').read_text()}")
    return path


def start_asyncssh(keys, kind="full"):
    """Start asyncssh's server; a "poor" one has none of OpenSSH's extensions."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, USER, PASSWORD, keys.host, keys.client.with_suffix(".pub"), kind],
        stdout=subprocess.PIPE,
        text=True,
    )
    port = int(process.stdout.readline())
    options = {"username": USER, "client_keys": keys.client, "known_hosts": known_hosts(keys, port)}
    return Server(port, process, options)


def stop(server):
    server.process.kill()
    server.process.wait()
    if server.process.stdout is not None:
        server.process.stdout.close()


@pytest.fixture(scope="session")
def asyncssh_server(keys):
    server = start_asyncssh(keys)
    yield server
    stop(server)


@pytest.fixture(scope="session")
def poor_server(keys):
    """A server without hard links and without a rename that replaces."""
    server = start_asyncssh(keys, "poor")
    yield server
    stop(server)


@pytest.fixture(scope="session")
def sick_server(keys):
    """A server that fails on demand."""
    server = start_asyncssh(keys, "sick")
    yield server
    stop(server)


@pytest.fixture
def mortal_servers(keys):
    """Two servers of the test's own, to be killed."""
    servers = [start_asyncssh(keys) for _ in range(2)]
    yield servers
    for server in servers:
        stop(server)


@pytest.fixture(scope="session")
def openssh_server(keys, tmp_path_factory):
    """Debian's sshd as the user that runs the tests."""
    sshd = shutil.which("sshd", path=os.defpath + ":/usr/sbin:/usr/local/sbin")
    if sshd is None:
        pytest.skip("needs OpenSSH's sshd (Debian's openssh-server)")
    folder = tmp_path_factory.mktemp("sshd")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "sshd_config"
    configuration.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {keys.host}\nAuthorizedKeysFile {keys.client.with_suffix('.pub')}\n"
        f"PidFile {folder / 'pid'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        "Subsystem sftp internal-sftp\nMaxStartups 100\n"
    )
    log = folder / "log"
    process = subprocess.Popen([sshd, "-D", "-f", configuration, "-E", log])
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                pytest.skip(f"needs an sshd that starts: {log.read_text() if log.exists() else 'no log'}")
            time.sleep(0.05)
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    options = {"username": user, "client_keys": keys.client, "known_hosts": known_hosts(keys, port)}
    server = Server(port, process, options)
    yield server
    stop(server)
