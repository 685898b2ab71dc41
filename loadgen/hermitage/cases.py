"""The Hermitage cases (github.com/ept/hermitage), and their variants with FOR UPDATE.

Each case begins with the rows 1 => 10 and 2 => 20. The two writers of one row write different values, so the value that
is left shows its writer. Hermitage's reads that decide nothing are left out.
"""

from collections.abc import Mapping

from loadgen.hermitage.case import INITIAL, Case, ReadKind, Rows, Seen, case

_FIRST_WRITTEN, _SECOND_WRITTEN = {1: 11, 2: 21}, {1: 12, 2: 22}
_ALL = "SELECT id, value FROM test"

_OTV_RANKS: Mapping[tuple[int, int], int] = {(1, 10): 0, (2, 20): 0, (1, 11): 1, (2, 19): 1, (1, 12): 2, (2, 18): 2}
"""Which transaction wrote a value in the OTV case: none, the first, the second."""


def _vanished(seen: Seen) -> bool:
    """A reader saw a transaction's write, and then, or beside it, the state of a row from before that transaction."""
    newest = 0
    for label in ("a", "b", "c"):
        ranks = [_OTV_RANKS[row] for row in seen.reads[label].items()]
        newest = max(newest, *ranks)
        if min(ranks) < newest:
            return True
    return False


def _torn_delete(seen: Seen) -> bool:
    """A transaction read the rows of value 20, deleted them, and yet neither order of the two explains it."""
    before, after = seen.reads["before"], seen.reads["after"]
    first_then_second = before == {1: 20} and after == {} and seen.final == {2: 30}
    second_then_first = before == {2: 20} and after == {} and seen.final == {1: 20}
    return not (first_then_second or second_then_first)


def _old(rows: Rows) -> bool:
    return all(INITIAL[key] == value for key, value in rows.items())


CASES: tuple[Case, ...] = (
    case(
        "G0",
        ReadKind.READ,
        "write cycle: two transactions write two rows, and each is left with the last word on one",
        """
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 12 WHERE id = 1
        1 UPDATE test SET value = 21 WHERE id = 2
        1 COMMIT
        2 UPDATE test SET value = 22 WHERE id = 2
        2 COMMIT
        """,
        lambda seen: seen.final not in (_FIRST_WRITTEN, _SECOND_WRITTEN),
    ),
    case(
        "G1a",
        ReadKind.READ,
        "aborted read: a value is read whose writer rolls back",
        f"""
        1 UPDATE test SET value = 101 WHERE id = 1
        2 {_ALL} -> a
        1 ROLLBACK
        2 {_ALL} -> b
        2 COMMIT
        """,
        lambda seen: 101 in (*seen.reads["a"].values(), *seen.reads["b"].values()),
    ),
    case(
        "G1b",
        ReadKind.READ,
        "intermediate read: a value is read that its writer replaces before it commits",
        f"""
        1 UPDATE test SET value = 101 WHERE id = 1
        2 {_ALL} -> a
        1 UPDATE test SET value = 11 WHERE id = 1
        1 COMMIT
        2 {_ALL} -> b
        2 COMMIT
        """,
        lambda seen: 101 in (*seen.reads["a"].values(), *seen.reads["b"].values()),
    ),
    case(
        "G1c",
        ReadKind.READ,
        "circular information flow: each of two transactions reads what the other wrote",
        """
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 22 WHERE id = 2
        1 SELECT id, value FROM test WHERE id = 2 -> a
        2 SELECT id, value FROM test WHERE id = 1 -> b
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.reads["a"] == {2: 22} and seen.reads["b"] == {1: 11},
    ),
    case(
        "OTV",
        ReadKind.READ,
        "observed transaction vanishes: a reader sees a transaction on one row and not, or no longer, on the other",
        f"""
        1 UPDATE test SET value = 11 WHERE id = 1
        1 UPDATE test SET value = 19 WHERE id = 2
        2 UPDATE test SET value = 12 WHERE id = 1
        1 COMMIT
        3 {_ALL} -> a
        2 UPDATE test SET value = 18 WHERE id = 2
        3 {_ALL} -> b
        2 COMMIT
        3 {_ALL} -> c
        3 COMMIT
        """,
        _vanished,
    ),
    case(
        "PMP",
        ReadKind.READ,
        "predicate-many-preceders: a row that matches appears between two reads of a predicate",
        """
        1 SELECT id, value FROM test WHERE value = 30 -> a
        2 INSERT INTO test (id, value) VALUES (3, 30)
        2 COMMIT
        1 SELECT id, value FROM test WHERE value % 3 = 0 -> b
        1 COMMIT
        """,
        lambda seen: seen.reads["a"] == {} and seen.reads["b"] == {3: 30},
    ),
    case(
        "PMP write predicate",
        ReadKind.WRITE,
        "predicate-many-preceders: the rows that a DELETE finds are not those that its transaction read",
        """
        1 UPDATE test SET value = value + 10
        2 SELECT id, value FROM test WHERE value = 20 -> before
        2 DELETE FROM test WHERE value = 20
        1 COMMIT
        2 SELECT id, value FROM test WHERE value = 20 -> after
        2 COMMIT
        """,
        _torn_delete,
    ),
    case(
        "P4",
        ReadKind.READ,
        "lost update: two transactions read a row and write it, and both commit",
        """
        1 SELECT id, value FROM test WHERE id = 1 -> a
        2 SELECT id, value FROM test WHERE id = 1 -> b
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 12 WHERE id = 1
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: _old(seen.reads["a"]) and _old(seen.reads["b"]),
    ),
    case(
        "G-single",
        ReadKind.READ,
        "read skew: one row is read from before a transaction, another from after it",
        """
        1 SELECT id, value FROM test WHERE id = 1 -> a
        2 SELECT id, value FROM test WHERE id = 1
        2 SELECT id, value FROM test WHERE id = 2
        2 UPDATE test SET value = 12 WHERE id = 1
        2 UPDATE test SET value = 18 WHERE id = 2
        2 COMMIT
        1 SELECT id, value FROM test WHERE id = 2 -> b
        1 COMMIT
        """,
        lambda seen: seen.reads["a"] == {1: 10} and seen.reads["b"] == {2: 18},
    ),
    case(
        "G-single read predicate",
        ReadKind.READ,
        "read skew by predicates: one is read before a transaction, another, which it made true, after it",
        """
        1 SELECT id, value FROM test WHERE value % 5 = 0 -> a
        2 UPDATE test SET value = 12 WHERE value = 10
        2 COMMIT
        1 SELECT id, value FROM test WHERE value % 3 = 0 -> b
        1 COMMIT
        """,
        lambda seen: seen.reads["a"] == INITIAL and seen.reads["b"] == {1: 12},
    ),
    case(
        "G-single write predicate",
        ReadKind.WRITE,
        "read skew by a write's predicate: a DELETE misses a row that its transaction's snapshot still holds",
        f"""
        1 SELECT id, value FROM test WHERE id = 1 -> a
        2 {_ALL}
        2 UPDATE test SET value = 12 WHERE id = 1
        2 UPDATE test SET value = 18 WHERE id = 2
        2 COMMIT
        1 DELETE FROM test WHERE value = 20
        1 SELECT id, value FROM test WHERE id = 2 -> b
        1 COMMIT
        """,
        lambda seen: seen.reads["a"] == {1: 10} and 2 in seen.final,
    ),
    case(
        "G2-item",
        ReadKind.READ,
        "write skew: two transactions read two rows, and each writes another one of them",
        """
        1 SELECT id, value FROM test WHERE id IN (1, 2) -> a
        2 SELECT id, value FROM test WHERE id IN (1, 2) -> b
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 21 WHERE id = 2
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.reads["a"] == seen.reads["b"] == INITIAL,
    ),
    case(
        "G2",
        ReadKind.READ,
        "anti-dependency cycle: two transactions find no row of a predicate, and each inserts one",
        """
        1 SELECT id, value FROM test WHERE value % 3 = 0 -> a
        2 SELECT id, value FROM test WHERE value % 3 = 0 -> b
        1 INSERT INTO test (id, value) VALUES (3, 30)
        2 INSERT INTO test (id, value) VALUES (4, 42)
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.reads["a"] == seen.reads["b"] == {},
    ),
    case(
        "G2 two edges",
        ReadKind.READ,
        "anti-dependency cycle of Fekete et al.: a read-only transaction sees the second of three, not the first",
        f"""
        1 {_ALL} -> a
        2 BEGIN
        2 UPDATE test SET value = value + 5 WHERE id = 2
        2 COMMIT
        3 BEGIN
        3 {_ALL} -> b
        3 COMMIT
        1 UPDATE test SET value = 0 WHERE id = 1
        1 COMMIT
        """,
        lambda seen: seen.reads["a"] == INITIAL and seen.reads["b"] == {1: 10, 2: 25},
    ),
    case(
        "PMP for update",
        ReadKind.LOCKING,
        "predicate-many-preceders, both reads with FOR UPDATE",
        """
        1 SELECT id, value FROM test WHERE value = 30 FOR UPDATE -> a
        2 INSERT INTO test (id, value) VALUES (3, 30)
        2 COMMIT
        1 SELECT id, value FROM test WHERE value % 3 = 0 FOR UPDATE -> b
        1 COMMIT
        """,
        lambda seen: seen.reads["a"] == {} and seen.reads["b"] == {3: 30},
    ),
    case(
        "P4 for update",
        ReadKind.LOCKING,
        "lost update, the row read with FOR UPDATE",
        """
        1 SELECT id, value FROM test WHERE id = 1 FOR UPDATE -> a
        2 SELECT id, value FROM test WHERE id = 1 FOR UPDATE -> b
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 12 WHERE id = 1
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: _old(seen.reads["a"]) and _old(seen.reads["b"]),
    ),
    case(
        "G-single for update",
        ReadKind.LOCKING,
        "read skew between a plain read and a later read with FOR UPDATE",
        """
        1 SELECT id, value FROM test WHERE id = 1 -> a
        2 UPDATE test SET value = 12 WHERE id = 1
        2 UPDATE test SET value = 18 WHERE id = 2
        2 COMMIT
        1 SELECT id, value FROM test WHERE id = 2 FOR UPDATE -> b
        1 COMMIT
        """,
        lambda seen: seen.reads["a"] == {1: 10} and seen.reads["b"] == {2: 18},
    ),
    case(
        "G2-item for update",
        ReadKind.LOCKING,
        "write skew, the rows read with FOR UPDATE",
        """
        1 SELECT id, value FROM test WHERE id IN (1, 2) FOR UPDATE -> a
        2 SELECT id, value FROM test WHERE id IN (1, 2) FOR UPDATE -> b
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 21 WHERE id = 2
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.reads["a"] == seen.reads["b"] == INITIAL,
    ),
    case(
        "G2 for update",
        ReadKind.LOCKING,
        "anti-dependency cycle, the predicate read with FOR UPDATE",
        """
        1 SELECT id, value FROM test WHERE value % 3 = 0 FOR UPDATE -> a
        2 SELECT id, value FROM test WHERE value % 3 = 0 FOR UPDATE -> b
        1 INSERT INTO test (id, value) VALUES (3, 30)
        2 INSERT INTO test (id, value) VALUES (4, 42)
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.reads["a"] == seen.reads["b"] == {},
    ),
)
