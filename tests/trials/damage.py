"""Damaged run directories: no traceback, no hang, nothing raw on the terminal, no ``valid`` where something was lost.

    python -m tests.trials.damage [--count 2000] [--seed 1] [--only NAME]

Real runs of all five workloads are made once, on an embedded PostgreSQL; each trial damages a copy of one of them in
one way, and gives it to ``loadgen check`` (as text, as JSON, and with a model), ``report``, ``list`` and ``export``. It
is judged wrongly if a command ends by anything but one of its exit codes, takes longer than LIMIT_S or more memory
than MOST_BYTES, writes a control character, calls the run ``invalid``, or calls it ``valid`` where something was lost.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import loadgen.commands.check_files
import loadgen.commands.export
import loadgen.judge.judge
from loadgen.clusters.cluster import Cluster
from loadgen.history.history import OPS_SCHEMA
from tests.sale_runs import dsn_of, run_sale
from tests.trials.servers import server

WORKLOADS = ("flashsale", "append", "register", "bank", "longfork")
LIMIT_S = 20.0
MOST_BYTES = 3 << 30
"""Address space of one trial above what the interpreter has taken already."""
CODES = {0, 1, 2, 3, 4, 5}
_RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
assert loadgen.judge.judge and loadgen.commands.check_files and loadgen.commands.export, "imported before trials fork"


@dataclass(frozen=True)
class Damage:
    """One way to damage a run directory; what it did in words.

    ``lost``: so that nothing may be called valid. ``unseen``: what an older version wrote has no checksums, so that any
    verdict may come of it, and no traceback.
    """

    act: Callable[[Path, random.Random], str]
    lost: bool
    unseen: bool = False


@dataclass
class Result:
    """What came of one trial. ``wrong`` says what was judged wrongly; empty if nothing was."""

    damage: str
    workload: str
    seed: str
    did: str = ""
    verdict: str = ""
    wrong: list[str] = field(default_factory=list)


def make_seeds(place: Path, cluster: Cluster) -> list[Path]:
    """A real run of each workload, and a second sale for what gets mixed."""
    made = []
    for index, workload in enumerate((*WORKLOADS, "flashsale")):
        options = ("--duration", "1.5s", "--peak-rate", "150", "-u", "4", "--seed", str(index), "--skus", "8")
        name = f"{workload}-{index}"
        where = ("--run-dir", name, "--dsn", dsn_of(cluster.address, "postgres"))
        run = run_sale(place, *where, *options, workload=workload)
        assert run.exit_code == 0, run
        made.append(place / name)
    return made


def _stream(run: Path, draw: random.Random) -> Path:
    return draw.choice(sorted((run / "history").glob("*.arrows")))


def _messages(data: bytes) -> list[bytes]:
    """The messages of a stream, its header first and its end-of-stream marker last."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        body = int.from_bytes(data[at + length - 8 : at + length], "little") if parts and length else 0
        parts.append(data[at : at + 8 + length + body])
        at += len(parts[-1])
    return parts


def truncate(run: Path, draw: random.Random) -> str:
    """Cut a stream at any byte."""
    path = _stream(run, draw)
    size = draw.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"{path.name} cut at {size}"


def flip(run: Path, draw: random.Random) -> str:
    """Turn one bit of a stream."""
    return _flip(_stream(run, draw), draw)


def _flip(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data))
    data[at] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return f"{path.name} flipped at {at}"


def overwrite(run: Path, draw: random.Random) -> str:
    """Write noise over a part of a stream."""
    path = _stream(run, draw)
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data) - 16)
    noise = draw.randbytes(16)
    if data[at : at + 16] == noise:
        noise = bytes(16)
    data[at : at + 16] = noise
    path.write_bytes(data)
    return f"{path.name} overwritten at {at}"


def batches(run: Path, draw: random.Random) -> str:
    """Leave out, double or move batches of a stream, which stays a well-formed one."""
    path = _stream(run, draw)
    header, *parts, marker = _messages(path.read_bytes())
    before = list(parts)
    act = draw.choice(("drop", "drop some", "double", "swap"))
    at = draw.randrange(len(parts))
    if act == "drop":
        del parts[at]
    elif act == "drop some":
        parts = [part for part in parts if draw.random() < 0.5]
    elif act == "double":
        parts.insert(at, parts[at])
    elif len(parts) > 1:
        other = draw.choice([index for index in range(len(parts)) if index != at])
        parts[at], parts[other] = parts[other], parts[at]
    if parts == before:
        parts.pop(0)
    path.write_bytes(b"".join((header, *parts, marker)))
    return f"{path.name}: {act} at {at} of {len(before)}"


def behind_the_end(run: Path, draw: random.Random) -> str:
    """Append to a stream."""
    path = _stream(run, draw)
    with path.open("ab") as file:
        file.write(draw.choice((b"\0", draw.randbytes(100), path.read_bytes(), b"\xff" * 8)))
    return f"{path.name} goes on"


def remove(run: Path, draw: random.Random) -> str:
    """Remove a stream, or all of one load process, or all final reads."""
    path = _stream(run, draw)
    pattern = draw.choice((path.name, "0.*.arrows", "final.*.arrows", "*.arrows"))
    for found in (run / "history").glob(pattern):
        found.unlink()
    return f"{pattern} removed"


def no_stream(run: Path, draw: random.Random) -> str:
    """Put something else in a stream's place."""
    path = _stream(run, draw)
    path.unlink()
    return f"{path.name} is {_put_something(path, draw)}"


def _put_something(path: Path, draw: random.Random) -> str:
    what = draw.choice(
        ("a pipe", "a directory", "/dev/zero", "/dev/tty", "a loop", "nothing", "huge", "noise", "dangling")
    )
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a directory":
        path.mkdir()
    elif what.startswith("/dev"):
        path.symlink_to(what)
    elif what == "a loop":
        path.symlink_to(path)
    elif what == "dangling":
        path.symlink_to(path.with_name("nowhere"))
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_bytes(draw.randbytes(5_000) if what == "noise" else b"")
    return what


def mixed(run: Path, draw: random.Random) -> str:
    """Put a stream of another run, or another stream of this one, in a stream's place."""
    path = _stream(run, draw)
    others = [
        other
        for seed in run.parent.glob("seed-*")
        for other in (seed / "history").glob("*.arrows")
        if other.read_bytes() != path.read_bytes()
    ]
    same = [other for other in others if other.name == path.name]
    other = draw.choice(same if same and draw.random() < 0.7 else others)
    path.write_bytes(other.read_bytes())
    return f"{path.name} is {other.parent.parent.name}'s {other.name}"


def rewritten(run: Path, draw: random.Random) -> str:
    """Take rows out of a stream, or change them, and write it anew as Arrow's own writer does."""
    path = draw.choice([run / "history" / name for name in ("0.ops.arrows", "0.invoked.arrows")])
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    act = draw.choice(
        ("five gone", "reversed", "as it is", "an older format", "compressed", "null", "time", "column", "more")
    )
    if act in ("five gone", "an older format"):
        gone = set(draw.sample(range(table.num_rows), min(5, table.num_rows)))
        table = table.take(pa.array([row for row in range(table.num_rows) if row not in gone]))
    elif act == "reversed":
        table = table.take(pa.array(range(table.num_rows - 1, -1, -1)))
    elif act == "null":
        column = table.column("number").to_pylist()
        column[draw.randrange(len(column))] = None
        table = table.set_column(table.schema.get_field_index("number"), "number", pa.array(column, pa.int64()))
    elif act == "time" and path.name == "0.ops.arrows":
        name = draw.choice(("due", "sent", "done"))
        values = np.array(table.column(name))
        values[draw.randrange(len(values))] = draw.choice((-1, 2**63 - 1, -(2**63), 2**62 + 1))
        table = table.set_column(table.schema.get_field_index(name), OPS_SCHEMA.field(name), pa.array(values))
    elif act == "column":
        table = table.remove_column(draw.randrange(table.num_columns))
    elif act == "more":
        table = table.append_column("more", pa.array(range(table.num_rows), pa.int64()))
    options = pa.ipc.IpcWriteOptions(compression="zstd" if act == "compressed" else None)
    schema = table.schema
    if act == "an older format":
        schema = schema.with_metadata({**(schema.metadata or {}), b"format": b"loadgen-history-1"})
    with pa.ipc.new_stream(str(path), schema, options=options) as writer:
        writer.write_table(table.cast(schema))
    return f"{path.name}: {act}"


def header(run: Path, draw: random.Random) -> str:
    """Write other facts into a stream's header."""
    path = _stream(run, draw)
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        table, metadata = reader.read_all(), dict(reader.schema.metadata or {})
    name = draw.choice((b"run_id", b"format", b"wall_ns", b"host", b"boot_id"))
    metadata[name] = draw.choice((b"", ESCAPE.encode(), b"9" * 5_000, b"\xff\xfe", b"-1"))
    with pa.ipc.new_stream(str(path), table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    return f"{path.name}: {name.decode()}"


def no_history(run: Path, draw: random.Random) -> str:
    """Put something else in the history's place."""
    shutil.rmtree(run / "history")
    return f"history is {_put_something(run / 'history', draw)}"


def later_version(run: Path, draw: random.Random) -> str:
    """Add streams that this version does not know, and files of any kind."""
    (run / "history" / "samples.arrows").write_bytes(draw.randbytes(100))
    (run / "history" / f"{ESCAPE[:5]}.arrows").write_bytes(b"")
    (run / "history" / "notes.txt").write_text("mine")
    return "more files"


def _json_file(run: Path, draw: random.Random) -> Path:
    return run / draw.choice(("plan.json", "load.json", "summary.json"))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container within a JSON value, with each of its keys."""
    if isinstance(value, dict):
        return [place for key, inner in value.items() for place in [(value, key), *_places(inner)]]
    if isinstance(value, list):
        return [place for key, inner in enumerate(value) for place in [(value, key), *_places(inner)]]
    return []


STRANGE: Sequence[Any] = (
    *(
        None,
        True,
        -1,
        0,
        2**70,
        -(2**63),
        1e308,
        "",
        "x",
        ESCAPE,
        "9" * 5_000,
        "\ud800",
        [],
        {},
        [[[]]],
        {"": {"": None}},
    ),
    *([1, "2", None], {"rows": -1}, ["\n\n"], 0.5, "valid", "a" * 100_000),
)


def wrong_type(run: Path, draw: random.Random) -> str:
    """Put another value somewhere into a JSON file, or take one out."""
    path = _json_file(run, draw)
    value = json.loads(path.read_text())
    told = []
    for _ in range(draw.choice((1, 1, 1, 3, 10))):
        places = _places(value)
        if not places:
            break
        container, key = draw.choice(places)
        if isinstance(container, dict) and draw.random() < 0.2:
            del container[key]
        else:
            container[key] = draw.choice(STRANGE)
        told.append(str(key))
    path.write_text(json.dumps(value))
    return f"{path.name}: {', '.join(told)}"


def strange_json(run: Path, draw: random.Random) -> str:
    """Make a JSON file something that is none, or hardly one."""
    path = _json_file(run, draw)
    text = path.read_text()
    at = draw.randrange(len(text))
    acts: Mapping[str, Callable[[], str]] = {
        "deep": lambda: "[" * 200_000,
        "deep object": lambda: '{"a":' * 200_000 + "1" + "}" * 200_000,
        "deep within": lambda: text.replace("{", '{"deep": ' + "[" * 200_000 + "]" * 200_000 + ",", 1),
        "NaN": lambda: re.sub(r": (-?\d[\d.]*)", ": NaN", text),
        "infinite": lambda: re.sub(r": (-?\d[\d.]*)", ": -Infinity", text, count=3),
        "large": lambda: re.sub(r": (-?\d[\d.]*)", ": 1e999", text, count=2),
        "long": lambda: re.sub(r": (-?\d+)", ": " + "7" * 6_000, text, count=2),
        "cut": lambda: text[:at],
        "empty": lambda: "",
        "list": lambda: f"[{text}]",
        "text": lambda: json.dumps(ESCAPE),
        "twice": lambda: text + text,
        "noise": lambda: text[:at] + ESCAPE + text[at:],
    }
    act = draw.choice(list(acts))
    path.write_text(acts[act]())
    return f"{path.name}: {act}"


def flip_json(run: Path, draw: random.Random) -> str:
    """Turn one bit of a JSON file."""
    return _flip(_json_file(run, draw), draw)


def other_plan(run: Path, draw: random.Random) -> str:
    """Change a number of the plan to another sound one."""
    path = run / "plan.json"
    facts = json.loads(path.read_text())
    name = draw.choice([name for name in ("stock", "skus", "user_limit", "seed", "buckets") if name in facts["plan"]])
    facts["plan"][name] += draw.choice((1, 2, 7))
    path.write_text(json.dumps(facts))
    return f"plan.json: {name}"


def no_json(run: Path, draw: random.Random) -> str:
    """Put something else in a JSON file's place."""
    path = _json_file(run, draw)
    path.unlink()
    return f"{path.name} is {_put_something(path, draw)}"


def older(run: Path, draw: random.Random) -> str:
    """Make it a run of an older version, without checksums, and damage that."""
    for path in (run / "history").glob("*.arrows"):
        with pa.ipc.open_stream(path.read_bytes()) as reader:
            batches, schema = [batch for batch in reader if batch.num_rows], reader.schema
        schema = schema.with_metadata({**(schema.metadata or {}), b"format": b"loadgen-history-1"})
        with pa.ipc.new_stream(str(path), schema) as writer:
            for batch in batches:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    load = json.loads((run / "load.json").read_text())
    for name in ("streams", "plan_checksum", "processes"):
        del load[name]
    (run / "load.json").write_text(json.dumps(load))
    acts = (truncate, flip, overwrite, behind_the_end, remove, mixed, rewritten, wrong_type, wrong_type, strange_json)
    return f"older, {draw.choice(acts)(run, draw)}"


DAMAGES: Mapping[str, Damage] = {
    "truncated": Damage(truncate, lost=True),
    "flipped": Damage(flip, lost=True),
    "overwritten": Damage(overwrite, lost=True),
    "batches": Damage(batches, lost=True),
    "behind the end": Damage(behind_the_end, lost=True),
    "removed": Damage(remove, lost=True),
    "no stream": Damage(no_stream, lost=True),
    "mixed": Damage(mixed, lost=True),
    "rewritten": Damage(rewritten, lost=True),
    "header": Damage(header, lost=True),
    "no history": Damage(no_history, lost=True),
    "later version": Damage(later_version, lost=False),
    "wrong type": Damage(wrong_type, lost=False),
    "strange json": Damage(strange_json, lost=False),
    "flipped json": Damage(flip_json, lost=False),
    "other plan": Damage(other_plan, lost=True),
    "no json": Damage(no_json, lost=False),
    "older": Damage(older, lost=False, unseen=True),
}


def play(name: str, seed: str, runs: Sequence[Path], place: Path) -> Result:
    """One trial in a process of its own, bounded in time and memory."""
    draw = random.Random(f"{name} {seed}")
    source = draw.choice(runs)
    result = Result(name, source.name.removeprefix("seed-"), seed)
    with tempfile.TemporaryDirectory(dir=place) as directory:
        for run in runs:
            (Path(directory) / f"seed-{run.name}").symlink_to(run)
        copy = Path(directory) / "run"
        shutil.copytree(source, copy)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _child(name, copy, draw, writer)
        os.close(writer)
        told = _told(reader, child)
    if told is None:
        result.wrong.append(f"no answer within {LIMIT_S:g} s, or the process was killed")
        return result
    result.did, result.verdict, result.wrong = told["did"], told["verdict"], told["wrong"]
    return result


def _told(reader: int, child: int) -> dict[str, Any] | None:
    """What the child wrote, or None if it did not end in time."""
    deadline, data = time.monotonic() + LIMIT_S, b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([pipe], [], [], left)[0]:
                break
            part = pipe.read(1 << 16)
            if not part:
                break
            data += part
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return dict(json.loads(data)) if data.endswith(b"\n") else None


def _child(name: str, run: Path, draw: random.Random, writer: int) -> None:
    told: dict[str, Any] = {"did": "", "verdict": "", "wrong": []}
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_BYTES, taken + MOST_BYTES))
        told["did"] = DAMAGES[name].act(run, draw)
        told["verdict"], told["wrong"] = _judged(run, DAMAGES[name])
    except BaseException:  # noqa: BLE001 - whatever it was, the parent has to know
        told["wrong"].append(f"the trial itself failed: {traceback.format_exc()[-1500:]}")
    os.write(writer, (json.dumps(told) + "\n").encode())
    os._exit(0)


def _judged(run: Path, damage: Damage) -> tuple[str, list[str]]:
    wrong = []
    verdict = ""
    commands = {
        "check": ["check", str(run)],
        "check --json": ["check", str(run), "--json"],
        "check --model": ["check", str(run), "--model", "read-committed"],
        "report": ["report", str(run)],
        "report --json": ["report", str(run), "--json"],
        "list": ["list", str(run.parent)],
        "export": ["export", str(run)],
    }
    for name, arguments in commands.items():
        code, out, err = _command(arguments)
        if isinstance(code, str):
            wrong.append(f"{name}: {code}")
            continue
        if code not in CODES:
            wrong.append(f"{name}: exit code {code}")
        if raw := _RAW.search(out + err):
            wrong.append(f"{name}: wrote {raw[0]!r}")
        lines = err.strip().splitlines()
        if any(not line.startswith("loadgen") for line in lines) or (code == 2 and not lines) or len(lines) > 2:
            wrong.append(f"{name}: said {err[:300]!r}")
        if name == "check --json" and code != 2:
            verdict = json.loads(out)["verdict"]
            never = {"invalid": not damage.unseen, "valid": damage.lost}.get(verdict, False)
            if never or (verdict == "valid") != (code in (0, 1, 3)):
                wrong.append(f"called {verdict}, exit code {code}: {out[:600]}")
        if name == "check --model" and ((code == 4 and not damage.unseen) or (code == 0 and damage.lost)):
            wrong.append(f"{name}: {out[:300]}")
        if name == "export" and code == 0 and damage.lost and not err:
            wrong.append("export: said nothing of what is missing")
    return verdict, wrong


def _command(arguments: Sequence[str]) -> tuple[int | str, str, str]:
    from loadgen.commands.main import main

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: int | str = main(list(arguments))
    except BaseException:  # noqa: BLE001 - this is what the trial looks for
        code = traceback.format_exc()[-1200:]
    return code, out.getvalue(), err.getvalue()


def main() -> int:
    """Run the campaign; 1 if anything was judged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(DAMAGES))
    parser.add_argument("--runs", type=Path, help="where runs of an earlier campaign are, or are to be made")
    options = parser.parse_args()
    names = [options.only] if options.only else list(DAMAGES)
    verdicts: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="trial-damage-") as directory:
        place = options.runs or Path(directory)
        runs = sorted(path.parent for path in place.glob("*/plan.json"))
        if not runs:
            with server("postgres") as cluster:
                runs = make_seeds(place, cluster)
        for index in range(options.count):
            result = play(names[index % len(names)], f"{options.seed}/{index}", runs, Path(directory))
            verdicts[f"{result.damage}: {result.verdict or 'refused'}"] += 1
            if result.wrong:
                wrong += 1
                print(json.dumps(asdict(result)), flush=True)
    figures = {"name": "damage", "count": options.count, "wrong": wrong, "verdicts": dict(sorted(verdicts.items()))}
    print(json.dumps(figures))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
