"""Imports go one way, plug-ins and doors keep apart, and only settings reads the environment."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "receiver"
RANKS = {
    "": 0, "models": 0, "times": 0, "errors": 0, "problem_types": 0,
    "ports": 1, "options": 1, "envelope": 1, "backoff": 1, "tokens": 1, "clock": 1, "payload": 1,
    "waiting": 1,
    "privileges": 1, "challenge": 1, "links": 1, "urls": 1, "folders": 1, "escapes": 1, "unified": 1,
    "ingest": 2, "reports": 2, "relay": 2, "sink_circuit": 2, "replay": 2, "upkeep": 2, "fetching": 2,
    "polling": 2,
    "task_waiters": 2, "testing": 2, "providers": 2, "stores": 2, "blobs": 2, "sinks": 2,
    "runtime": 3, "loops": 3, "worker": 3, "plugins": 3, "config": 3, "logs": 3, "metrics": 3,
    "commit_probe": 3,
    "web": 4, "cli": 4, "simulator": 4, "__main__": 4, "asgi": 4,
}  # fmt: skip
PLUG_INS = {"providers", "stores", "blobs", "sinks"}
DOORS = {"web", "cli", "simulator"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(tree: ast.AST) -> set[str]:
    """The modules of ours that a module imports; names in them are cut off."""
    wanted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            wanted |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.partition(".")[2] for name in wanted if name.partition(".")[0] == "receiver"}
    return {name if name in TREES else name.rpartition(".")[0] for name in ours}


GRAPH = {name: imports_of(tree) - {name} for name, tree in TREES.items()}
EDGES = [(importer, imported) for importer, found in GRAPH.items() for imported in sorted(found)]


def top(name: str) -> str:
    return name.partition(".")[0]


def plug_in(name: str) -> str | None:
    return ".".join(name.split(".")[:2]) if top(name) in PLUG_INS and "." in name else None


def test_every_module_has_a_rank() -> None:
    assert {top(name) for name in TREES} == set(RANKS)


def test_a_module_imports_its_own_rank_or_below() -> None:
    assert [edge for edge in EDGES if RANKS[top(edge[1])] > RANKS[top(edge[0])]] == []


def test_a_door_never_imports_another_door() -> None:
    assert [(a, b) for a, b in EDGES if {top(a), top(b)} <= DOORS and top(a) != top(b)] == []


def test_plug_ins_are_imported_by_nobody_and_see_only_contracts_and_values() -> None:
    foreign = [(a, b) for a, b in EDGES if plug_in(a) != plug_in(b)]
    assert [(a, b) for a, b in foreign if plug_in(b)] == []
    assert [(a, b) for a, b in foreign if plug_in(a) and RANKS[top(b)] > 1] == []


def test_only_plugins_names_plug_ins() -> None:
    named = [
        (name, node.value)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
        if any(node.value.startswith(f"receiver.{kind}.") for kind in PLUG_INS)
    ]
    assert {name for name, _ in named} == {"plugins"}


def test_only_settings_reads_the_environment() -> None:
    readers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    }
    assert readers - {"cli.demo"} == {
        "config.settings"
    }  # the demo hands an environment to the processes it starts


def test_there_are_no_import_cycles() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError with the cycle
