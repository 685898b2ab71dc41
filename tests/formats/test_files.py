"""Files of every format, well and ill formed, as ``loadgen check`` takes them."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.commands.check_files import check_files
from loadgen.commands.export import export
from loadgen.errors import StoreError
from loadgen.formats.edn import EdnError, Keyword, read_all
from loadgen.formats.files import load
from loadgen.formats.streams import SUFFIX, TransactionWriter, TxnRow, read_transactions
from loadgen.isolation.check import judge
from loadgen.isolation.transactions import HistoryKind
from tests.simulation.bulk import Bulk, write_bulk
from tests.simulation.stores import Level, Store

SKEW = """
; two transactions that each miss the other's append
{:type :invoke, :f :txn, :process 0, :value [[:r :x nil] [:append :y 1]], :index 0, :time 10}
#jepsen.history.Op{:type :invoke :f :txn :process 1 :value [[:r :y nil] [:append :x 1]] :index 1 :time 11}
{:type :info, :f :kill, :process :nemesis, :value nil, :index 2, :time 12}
{:type :ok, :f :txn, :process 0, :value [[:r :x []] [:append :y 1]], :index 3, :time 13}
{:type :ok, :f :txn, :process 1, :value [[:r :y nil] [:append :x 1]] :index 4, :time #_99 14}
"""


def checked(path: Path, model: str, kind: str | None = None) -> tuple[int, dict[str, object] | None, str]:
    """The exit code, the JSON and the complaints of one check."""
    out, errors = io.StringIO(), io.StringIO()
    code = check_files([path], model, kind, True, 20, out, errors)
    return code, json.loads(out.getvalue()) if out.getvalue() else None, errors.getvalue()


def test_edn_write_skew_is_invalid_by_serializable_and_valid_by_snapshot_isolation(tmp_path: Path) -> None:
    """Keywords, nil, tags, discards, comments and commas are read."""
    path = tmp_path / "skew.edn"
    path.write_text(SKEW)

    assert checked(path, "snapshot-isolation")[0] == 0
    code, answer, _ = checked(path, "serializable")
    assert code == 4
    assert answer is not None
    assert answer["models"] == {"serializable": {"valid": False, "anomalies": ["G2-item"]}}
    assert checked(path, "all")[0] == 0


@pytest.mark.parametrize("lines", [True, False])
def test_json_array_and_lines_are_read(tmp_path: Path, lines: bool) -> None:
    """Both forms of JSON hold the same history."""
    ops = [
        {"type": "invoke", "process": 0, "f": "txn", "value": [["w", "x", 1]]},
        {"type": "ok", "process": 0, "f": "txn", "value": [["w", "x", 1]]},
        {"type": "invoke", "process": 1, "f": "txn", "value": [["r", "x", None]]},
        {"type": "ok", "process": 1, "f": "txn", "value": [["r", "x", None]]},
    ]
    path = tmp_path / "history.json"
    path.write_text("\n".join(map(json.dumps, ops)) if lines else json.dumps(ops))

    assert checked(path, "serializable")[0] == 0
    assert checked(path, "strict-serializable")[0] == 4


def test_plain_text_is_read_with_sessions_and_aborts(tmp_path: Path) -> None:
    """A causal anomaly of three sessions is read-atomic; a read of an aborted write is not read-committed."""
    path = tmp_path / "history.txt"
    path.write_text("w(1,1,0,0)\nr(1,1,1,1)\nw(2,2,1,1)\nr(2,2,2,2)\nr(1,0,2,2)\n")

    assert checked(path, "read-atomic")[0] == 0
    assert checked(path, "causal")[0] == 4
    path.write_text("w(1,7,0,-1)\nr(1,7,1,1)\n")
    assert checked(path, "read-committed")[1]["models"]["read-committed"]["anomalies"] == ["G1a"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("hello", "begins no history"),
        ("{:type :ok", "ends inside"),
        ("[" * 100_000, "nested deeper"),
        ("{:a 1 :a 2}", "one key twice"),
        ('{"type": "ok", "process": 0', "line 1"),
        ('[{"type": "invoke"}, 7]', "operation 1 is 7, not a map"),
        ('[{"type": "okay", "process": 0}]', "not invoke, ok, fail or info"),
        ("r(1,2,3,4)\nr(1,2)\n", "line 2"),
        ('[{"type": "ok", "process": 0, "index": "a"}]', "has the index 'a'"),
        ("{:type :ok :process 0 :value " + "1" * 5000 + "}", "5000 digits"),
        ('[{"x":' * 50_000, "nested too deep"),
    ],
)
def test_unreadable_file_exits_2_and_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    """What cannot be read is no verdict."""
    path = tmp_path / "history"
    path.write_text(text)
    code, _, errors = checked(path, "all")

    assert code == 2
    assert complaint in errors


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{:type :ok :process 0 :index 1 :value [[:r :x [1]]]} {:type :ok :process 1 :index 1 :value [[:append :x 1]]}",
        "{:type :ok :process 0 :value [[:cas :x 1]]}",
        "{:type :ok :process 0 :value [[:append :x 1] [:w :x 2]]}",
        "{:type :ok :process 0 :value [[:append :x 1] [:r :x 5]]}",
        "{:type :ok :process 0 :value 3}",
        "{:type :ok :process 0 :value [[:append :x 1] [:append :x 1]]}",
    ],
)
def test_broken_precondition_is_unknown(tmp_path: Path, text: str) -> None:
    """Wrong types, repeated indexes and writes, and histories of nothing give unknown with the reason."""
    path = tmp_path / "history.edn"
    path.write_text(text)
    code, answer, _ = checked(path, "serializable")

    assert code == 5
    assert answer is not None
    assert answer["models"]["serializable"]["why"]  # type: ignore[index]


def _read(process: int, value: str) -> str:
    return f"{{:type :invoke :f :read :process {process}}} {{:type :ok :f :read :process {process} :value {value}}}"


_ADD = "{:type :ok :f :add :process 0 :value 1}"


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("bank", _read(0, "{0 60, 1 40}") + _read(0, "{0 50, 1 50}"), 5),
        ("bank", _read(0, "{0 60, 1 40}") + _read(0, "{0 50, 1 40}"), 4),
        ("bank", _read(0, "{0 60, 1 :much}"), 5),
        ("set", _ADD + _read(1, "[1]"), 5),
        ("set", _ADD + _read(1, "[]"), 4),
        ("set", _ADD, 5),
        ("long-fork", _read(0, "[[:r 1 1] [:r 2 nil]]") + _read(1, "[[:r 1 nil] [:r 2 1]]"), 4),
        ("long-fork", _read(0, "[[:r 1 1] [:r 2 nil]]") + _read(1, "[[:r 1 1] [:r 2 1]]"), 5),
    ],
)
def test_jepsen_kinds_are_judged(tmp_path: Path, kind: str, text: str, code: int) -> None:
    """Bank, set and long-fork histories, named by option or by what they do."""
    path = tmp_path / "history.edn"
    path.write_text(text)

    assert checked(path, "serializable", kind)[0] == code
    assert checked(path, "serializable")[0] == code


_WORDS = st.sampled_from(["x", "y", "append", "r", "w"])
_ATOMS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), _WORDS)
_VALUES = st.recursive(
    _ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
_ANSWERS = st.one_of(st.integers(0, 4), st.lists(st.integers(0, 4), max_size=3), st.none())
_MOPS = st.lists(st.tuples(st.sampled_from(["r", "w", "append"]), st.sampled_from("xy"), _ANSWERS), max_size=3)
_OPS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["invoke", "ok", "fail", "info"])},
        optional={
            "process": st.one_of(st.integers(0, 2), _ATOMS),
            "f": st.sampled_from(["txn", "read", "add", "transfer", "write"]),
            "index": st.one_of(st.integers(0, 9), _ATOMS),
            "value": st.one_of(_VALUES, _MOPS),
        },
    ),
    max_size=12,
)


@given(ops=_OPS)
@settings(max_examples=200, deadline=None)
def test_any_json_operations_are_judged_or_refused(ops: list[object], tmp_path_factory: pytest.TempPathFactory) -> None:
    """No operation maps, however wrong, make the check crash."""
    path = tmp_path_factory.mktemp("fuzz") / "history.json"
    path.write_text(json.dumps(ops))

    assert checked(path, "serializable")[0] in (0, 2, 4, 5)


@given(text=st.text(alphabet='[](){}#:"\\;,^_ \n\tabnil01.-+r w@', max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_as_edn_is_read_or_refused(text: str) -> None:
    """The EDN reader answers with values or an EdnError, nothing else."""
    try:
        list(read_all(text))
    except EdnError as error:
        assert "line" in str(error)


@given(raw=st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_judged_or_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No file, however wrong, makes the check crash."""
    path = tmp_path_factory.mktemp("fuzz") / "history"
    path.write_bytes(raw)

    assert checked(path, "serializable")[0] in (0, 2, 4, 5)


def test_truncated_history_is_never_called_whole(tmp_path: Path) -> None:
    """Every prefix of an EDN history is judged as what it holds, or refused."""
    path = tmp_path / "history.edn"
    for end in range(len(SKEW)):
        path.write_text(SKEW[:end])
        assert checked(path, "snapshot-isolation")[0] in (0, 2, 5)


def test_edn_scalars_keep_their_types() -> None:
    """Keyword, string, symbol, character and numbers are told apart."""
    (values,) = read_all('[:x "x\\u0041\\n" 1 1.5 -2N \\a \\newline #{1} #inst "2020" ##Inf nil true]')

    assert values[:3] == [Keyword("x"), "xA\n", 1]
    assert values[3:7] == [1.5, -2, "a", "\n"]
    assert values[8] == "2020"


@pytest.mark.parametrize("style", ["elle-edn", "elle-json"])
@pytest.mark.parametrize("kind", [HistoryKind.LIST_APPEND, HistoryKind.REGISTER])
def test_exported_history_judges_as_before(tmp_path: Path, style: str, kind: HistoryKind) -> None:
    """A run written as Elle's maps and read again has the same answers."""
    for seed in range(5):
        store = Store(Level.SNAPSHOT, kind, seed)
        store.run(15)
        txns = store.history()
        path = tmp_path / f"{seed}.edn"
        with path.open("w") as out:
            export(txns, style, out)
        again = load(path).txns
        assert again is not None
        before, after = judge(txns).answers, judge(again).answers
        assert {model: answer.verdict for model, answer in before.items()} == {
            model: answer.verdict for model, answer in after.items()
        }


def test_own_stream_keeps_lists_whole_even_if_odd(tmp_path: Path) -> None:
    """Lists are stored by what is new in them, and come back as they were read."""
    path = tmp_path / f"a{SUFFIX}"
    reads = [[1], [1, 2, 3], [1, 2], [2, 1], [], [1, 2, 3, 4]]
    with TransactionWriter(path, HistoryKind.LIST_APPEND) as writer:
        writer.write([TxnRow(0, 10 * at, 10 * at + 5, 0, at, [(0, 7, seen)]) for at, seen in enumerate(reads)])
    txns = read_transactions([path])

    assert [txns.list_read(mop) for mop in range(len(reads))] == reads


def test_streams_of_two_processes_are_one_history(tmp_path: Path) -> None:
    """Each stream remembers its own lists; together they agree or are odd."""
    for name, seen in (("a", [1, 2, 3]), ("b", [1, 2])):
        with TransactionWriter(tmp_path / f"{name}{SUFFIX}", HistoryKind.LIST_APPEND) as writer:
            rows = [TxnRow(0, 1, 2, 0, each, [(1, 7, each)]) for each in (1, 2, 3)] if name == "a" else []
            writer.write([*rows, TxnRow(1 if name == "a" else 2, 5, 6, 0, 9, [(0, 7, seen)])])

    assert checked(tmp_path, "strict-serializable")[0] == 4
    assert checked(tmp_path, "serializable")[0] == 0


def test_stream_cut_short_is_unknown_and_nonsense_is_refused(tmp_path: Path) -> None:
    """A stream without its end may miss transactions."""
    path = tmp_path / f"a{SUFFIX}"
    write_bulk(path, Bulk(HistoryKind.LIST_APPEND, 500, keys=50))
    whole = path.read_bytes()
    assert checked(path, "serializable")[0] == 0
    path.write_bytes(whole[:-8])
    assert checked(path, "serializable")[0] == 5
    path.write_bytes(whole[:100])
    with pytest.raises(StoreError):
        load(path)


def test_injected_stale_read_is_found_in_a_bulk_history(tmp_path: Path) -> None:
    """One stale read among thousands of transactions rules out snapshot isolation, with a small witness."""
    path = tmp_path / f"a{SUFFIX}"
    write_bulk(path, Bulk(HistoryKind.VERSIONED, 3_000, keys=100), stale_at=1_000)
    code, answer, _ = checked(path, "serializable")

    assert code == 4
    assert answer is not None
    assert answer["anomalies"]
