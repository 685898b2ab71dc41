"""A password is nowhere: not in a message, a file, a page or a process list, whatever it, the user or the host is."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import psutil
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from loadgen.clusters.cluster import Cluster
from loadgen.commands.main import main
from loadgen.dsn import masked_dsn, read_dsn
from loadgen.engines import engine_of
from loadgen.engines.address import parse_dsn
from loadgen.errors import LoadgenError
from loadgen.plan import parse_plan, plan_from_json
from tests.plans import sale_plan
from tests.stored import write_stored_run

ROOT = Path(__file__).parent.parent
MARK = "Zq7"
"""A piece that nothing but a password holds."""
PRINTABLE = st.characters(exclude_categories=("Cs", "Cc"))
NAMES = st.text(PRINTABLE, max_size=12)
PASSWORDS = st.builds(
    lambda head, tail: f"{head}{MARK}{tail}", st.text(PRINTABLE, max_size=8), st.text(PRINTABLE, max_size=8)
)
SCHEMES = ("postgres", "postgresql+asyncpg", "mysql", "mysql+pymysql", "jdbc:mysql", "jdbc:postgresql", "http", "")
HOSTS = st.sampled_from(["db1", "10.0.0.1", "[::1]", "db1:5000,db2:5001", "xn--bcher-kva.example", "bücher.example"])


def forms(user: str, password: str, host: str) -> Iterator[str]:
    """DSNs that carry this password, in every way in which one can, right and wrong."""
    encoded, name = quote(password, safe=""), quote(user, safe="")
    for scheme in (
        "postgres",
        "postgresql+asyncpg",
        "mysql",
        "mysql+pymysql",
        "jdbc:mysql",
        "jdbc:postgresql",
        "http",
        "",
    ):
        yield f"{scheme}://{name}:{encoded}@{host}/db"
        yield f"{scheme}://{user}:{password}@{host}/db"  # nothing is encoded
        yield f"{scheme}://{host}/db?user={name}&password={encoded}"
        yield f"{scheme}://{name}@{host}/db?password={password}&sslmode=require"
        yield f"{scheme}://{name}@{host}/?sslmode=disable&sslpassword={encoded}"
        yield f"{scheme}://{name}@{host}/?nonsense={encoded}"
        yield f"{scheme}://{name}:{encoded}@{host}:port/db"
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    yield f"host=db user='u' password='{quoted}' dbname=d"
    yield f"host=db password={password} user=u"
    yield f"host=db password='{password}"
    yield f"{user}:{password}@tcp({host})/db"


def shown_of(dsn: str) -> str:
    """All that any part of loadgen says of a DSN, whether it can be read or not."""
    texts = [masked_dsn(dsn), json.dumps(sale_plan(dsn=dsn, cluster="existing").to_json(), ensure_ascii=False)]
    texts.append(repr(sale_plan(dsn=dsn)))
    for work in (
        lambda: read_dsn(dsn),
        lambda: parse_plan({"dsn": dsn}),
        lambda: parse_dsn(dsn, {"PGPASSWORD": f"{MARK}env", "MYSQL_PWD": f"{MARK}env"}),
    ):
        try:
            found = work()
        except LoadgenError as error:
            texts.append(str(error))
        else:
            texts.append(repr(found))
            if hasattr(found, "masked"):
                texts.append(json.dumps(found.masked(), ensure_ascii=False))
    return "\n".join(texts)


@settings(max_examples=300, deadline=None)
@given(NAMES, PASSWORDS, HOSTS)
@example("?", f"{MARK}=", "db1")
@example("u", f"1?{MARK}=", "db1")
def test_no_text_holds_a_password(user: str, password: str, host: str) -> None:
    """In more than 50 spellings of each DSN; what marks it as a password is in none of them."""
    assume(MARK not in user)
    for dsn in forms(user, password, host):
        assert MARK not in shown_of(dsn), dsn


@settings(max_examples=150, deadline=None)
@given(NAMES, st.text(PRINTABLE, min_size=1, max_size=6), st.text(PRINTABLE, min_size=1, max_size=6), HOSTS)
def test_what_is_shown_does_not_depend_on_the_password(user: str, one: str, other: str, host: str) -> None:
    """Also not for a password that is found everywhere, such as a digit, or a word of loadgen's own."""
    texts = set()
    for password in (one, other, "1", "loadgen", "100", "***"):
        dsn = f"postgres://{quote(user, safe='')}:{quote(password, safe='')}@{host}/db"
        texts.add(shown_of(dsn).replace(repr(dsn), ""))
    assert len(texts) == 1


@given(NAMES, PASSWORDS)
def test_any_user_and_password_arrive_whole(user: str, password: str) -> None:
    """Encoded in a URL, quoted in libpq's form; a user with @ and # also as it is."""
    assume(user)
    encoded = f"{quote(user, safe='')}:{quote(password, safe='')}"
    for scheme in ("postgres", "mysql"):
        address = parse_dsn(f"{scheme}://{encoded}@h/", {"HOME": "/none"})
        assert (address.user, address.password) == (user, password)
    escaped = [text.replace("\\", "\\\\").replace("'", "\\'") for text in (user, password)]
    address = parse_dsn("host=h user='{}' password='{}'".format(*escaped), {})
    assert (address.user, address.password) == (user, password)
    assert parse_dsn("mysql://root@tenant#cluster:PW@h/", {}).password == "PW"


@pytest.mark.parametrize("password", ["100", "loadgen", "1", "runs", "valid", "***"])
def test_report_does_not_depend_on_a_password(
    password: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures stay figures, and the commands in it can be copied."""
    run = write_stored_run(tmp_path / "run")
    main(["check", str(run)])
    before = capsys.readouterr().out
    plan = json.loads((run / "plan.json").read_text())
    stored = sale_plan(dsn=f"mysql://u:{password}@h/", cluster="existing", engine="mysql").to_json()
    (run / "plan.json").write_text(json.dumps({**plan, "plan": {**plan["plan"], "dsn": stored["dsn"]}}))
    monkeypatch.setenv("LOADGEN_DSN", f"mysql://u:{password}@h/")
    main(["check", str(run)])

    assert capsys.readouterr().out == before
    assert f"loadgen check {run}" in before
    assert plan_from_json(stored).dsn == "mysql://u:***@h"


def spellings(password: str) -> list[bytes]:
    """A password as it stands in a text, a URL, in JSON, and in Python's or SQL's quotes."""
    found = {password, quote(password, safe=""), quote(password), quote_plus(password), json.dumps(password)[1:-1]}
    found |= {repr(password)[1:-1], password.replace("'", "''"), password.replace("'", "\\'")}
    return [text.encode() for text in found]


@pytest.mark.server
@pytest.mark.parametrize(
    ("engine", "user", "password"),
    [
        ("postgres", "clerk@server#1", "p ä'ß@/:#?%&=\\\"Zq7"),
        ("oceanbase", "clerk", "Zq7-\"%41+#x'y"),
    ],
)
def test_no_file_and_no_page_of_a_run_holds_the_password(
    engine: str, user: str, password: str, cluster: Cluster, tmp_path: Path
) -> None:
    """Files of the run, Locust's files, its page, what it prints, and the arguments of all its processes."""
    address = cluster.address
    with closing(engine_of(engine).control(address, "secrets")) as control:
        quoted = password.replace("'", "''")
        if engine == "postgres":
            control.query(f"CREATE ROLE \"{user}\" SUPERUSER LOGIN PASSWORD '{quoted}'")
        else:
            control.query(f"CREATE USER '{user}' IDENTIFIED BY '{quoted}'")
            control.query(f"GRANT ALL ON *.* TO '{user}'")
        try:
            _run_and_search(engine, user, password, address.socket, address.port, tmp_path)
        finally:
            with suppress(LoadgenError):
                control.query(f"DROP SCHEMA IF EXISTS loadgen {'CASCADE' if engine == 'postgres' else ''}")
                control.query(f'DROP ROLE "{user}"' if engine == "postgres" else f"DROP USER '{user}'")


def _run_and_search(engine: str, user: str, password: str, socket: str, port: int, folder: Path) -> None:
    scheme, where = (
        ("postgres", f"host={quote(socket)}&port={port}")
        if engine == "postgres"
        else ("mysql", f"unix_socket={quote(socket)}")
    )
    database = "postgres" if engine == "postgres" else ""
    dsn = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@/{database}?{where}"
    page = 18000 + os.getpid() % 2000
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "workloads" / "flashsale.py"), "--engine", engine]
    command += ["--peak-rate", "40", "--duration", "3s", "-u", "4", "--csv", "table", "--html", "page.html"]
    command += ["--autostart", "--autoquit", "1", "--web-port", str(page), "--loglevel", "DEBUG"]
    environ = {**os.environ, "LOADGEN_DSN": dsn}
    found: dict[str, bytes] = {}
    with (
        (folder / "out.txt").open("wb") as out,
        subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=subprocess.STDOUT) as running,
    ):
        deadline = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < deadline:
            with suppress(psutil.Error):
                for process in (psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)):
                    found[f"argv of {process.pid}"] = "\0".join(process.cmdline()).encode()
            for path in ("/", "/stats/requests", "/tasks", "/exceptions", "/logs", "/stats/report"):
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{page}{path}", timeout=2) as answer:
                    found[path] = answer.read()
            time.sleep(0.2)
        running.kill()
    found |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert running.returncode == 0, found[str(folder / "out.txt")].decode()[-2000:]
    assert "/" in found, "the page was never seen"
    assert any(name.endswith("plan.json") for name in found)
    for name, text in found.items():
        for spelling in spellings(password):
            assert spelling not in text, name
