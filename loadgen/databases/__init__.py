"""The databases that loadgen knows: one file each, and one line here. Nothing else knows them by name."""

from collections.abc import Mapping
from importlib import import_module

from loadgen.databases.database import Database, ServerBinary, Wire

NAMES = (
    "postgres",
    "mysql",
    "tidb",
    "oceanbase",
)
"""One line for each file of this room. The first is what a run takes that names none."""

DATABASES: Mapping[str, Database] = {name: import_module(f"loadgen.databases.{name}").DATABASE for name in NAMES}
"""By name, in the order of lists and menus."""
WIRES: Mapping[str, Wire] = {database.wire.name: database.wire for database in DATABASES.values()}
SCHEMES: Mapping[str, Database] = {
    scheme: database for name in reversed(NAMES) for database in (DATABASES[name],) for scheme in database.schemes
}
"""The schemes of DSNs, and which database each means where no engine is named: the first that has it."""

SERVER_BINARIES: Mapping[str, ServerBinary] = {
    database.embedded.binary.name: database.embedded.binary
    for database in DATABASES.values()
    if database.embedded and database.embedded.binary
}
"""The programs that ``loadgen install`` can provide."""


def _isolations() -> tuple[str, ...]:
    names: list[str] = []
    for database in DATABASES.values():
        place = 0
        for level in database.levels:
            if level.name not in names:
                names.insert(place, level.name)
            place = names.index(level.name) + 1
    return tuple(names)


ISOLATIONS = _isolations()
"""Every level that a database has, from the weakest."""
REPLICATING: Mapping[str, int] = {
    name: database.embedded.most_nodes
    for name, database in DATABASES.items()
    if database.embedded and database.embedded.most_nodes > 1
}
"""Those whose embedded server may have standbys, with how many nodes it may have."""
