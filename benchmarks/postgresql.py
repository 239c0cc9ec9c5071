"""A PostgreSQL server on loopback, with a database of its own, for as long as a block runs."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prelabel.worker.machine.children import spawn, stop
from prelabel.worker.running.stack import free_port

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps a folder for each release, none of which is on PATH."""

_USER = "postgres"
_START_S = 60.0


def postgresql_bin(chosen: Path | None) -> Path:
    """The folder with PostgreSQL's server programs: the chosen one, PATH's, or that of Debian's newest release.

    Raises:
        SystemExit: there is none; the message says what to do.
    """
    on_path = shutil.which("postgres")
    newest_first = sorted(DEBIAN.glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in [chosen] if chosen else [*([Path(on_path).resolve().parent] if on_path else []), *newest_first]:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    where = f"in {chosen}" if chosen else "on PATH or below /usr/lib/postgresql"
    raise SystemExit(f"no PostgreSQL server {where}: install one (Debian: postgresql) or name its --postgresql-bin")


@contextmanager
def postgresql(programs: Path, directory: Path) -> Iterator[dict[str, str]]:
    """Run a server as PostgreSQL sets it up, with nothing tuned; yields the variables Label Studio finds it by.

    Args:
        programs: folder with `postgres` and `initdb`.
        directory: for its data; new or empty. Who runs the server must get there: PostgreSQL refuses root, so for root
            it is the user nobody.

    Raises:
        SystemExit: it does not start; the message holds the end of its log.
    """
    password, port = secrets.token_urlsafe(12), free_port()
    data, log_path, secret = directory / "data", directory / "postgresql.log", directory / "password"
    directory.mkdir(parents=True, exist_ok=True)
    secret.write_text(password)
    prefix: list[str] = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (directory, secret):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        ids = ("--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups")
        prefix = ["setpriv", *ids, "--pdeathsig", "TERM"]  # the change of user would make Linux forget the signal
    options = ("-U", _USER, "-E", "UTF8", "--pwfile", str(secret), "--auth", "scram-sha-256", "--no-instructions")
    made = subprocess.run(
        [*prefix, str(programs / "initdb"), "-D", str(data), *options],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise SystemExit(f"PostgreSQL's database cannot be made: {made.stderr.strip()}")
    command = [str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(directory)]
    with log_path.open("ab") as log:
        server = spawn([*prefix, *command], output=log)
    try:
        _wait_until_up(server, data, log_path)
        yield {
            "DJANGO_DB": "default",
            "POSTGRE_NAME": "postgres",
            "POSTGRE_USER": _USER,
            "POSTGRE_PASSWORD": password,
            "POSTGRE_HOST": "127.0.0.1",
            "POSTGRE_PORT": str(port),
        }
    finally:
        stop(server, 30)


def _wait_until_up(server: subprocess.Popen[bytes], data: Path, log_path: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):  # where pg_ctl looks, too
            if (data / "postmaster.pid").read_text().rstrip().endswith("ready"):
                return
        time.sleep(0.1)
    raise SystemExit(f"PostgreSQL did not start: {log_path.read_text(errors='replace').strip()[-500:]}")
