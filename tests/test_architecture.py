"""Imports go one way, plug-ins and doors keep apart, and only settings reads the environment."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "receiver"
RANKS = {
    module: rank
    for rank, modules in enumerate(
        [
            " models times errors problem_types client",
            "ports options asset_keys envelope payload unified tokens urls links clock backoff step_pace",
            "record",
            "ingest relay asset_links sink_circuit replay upkeep fetching polling task_waiters testing",
            "runtime health loops lanes worker plugins config logs metrics commit_probe settings_audit",
            "web cli simulator __main__ asgi",
        ]
    )
    for module in modules.split(" ")
}
RANKS |= dict.fromkeys(
    (
        "batches",
        "challenge",
        "declared",
        "folders",
        "lazy_map",
        "forms",
        "escapes",
        "licences",
        "manual",
        "timeline",
        "privileges",
        "signing",
        "sink_urls",
        "threads",
        "toml_lines",
        "jobs",
        "celery_message",
        "traceparent",
        "tracing",
        "unified_orders",
        "usd",
    ),
    RANKS["ports"],
)
RANKS["time_series"] = RANKS["ingest"]
RANKS |= dict.fromkeys(("providers", "stores", "blobs", "sinks", "thumbnails", "gateway"), RANKS["ingest"])
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
    assert [
        (a, b) for a, b in foreign if plug_in(a) and RANKS[top(b)] > RANKS["ports"] and top(b) != "record"
    ] == []


def test_only_stores_know_how_the_record_is_kept() -> None:
    assert {top(a) for a, b in EDGES if top(b) == "record"} <= {"record", "stores"}


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
    # The client is a part of other programs. The demo and the fixtures hand an environment to processes.
    others = {"cli.demo", "testing.fixtures"}
    assert {name for name in readers if top(name) != "client"} - others == {"config.settings"}


def test_the_client_imports_nothing_of_the_service() -> None:
    assert [(a, b) for a, b in EDGES if top(a) == "client" and top(b) != "client"] == []


def test_there_are_no_import_cycles() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError with the cycle
