"""Who may import whom, read from the sources; and proof that the reading can fail."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHOD_FILES = [
    "methods/vitcop.py",
    *(f"baselines/{p.name}" for p in (ROOT / "baselines").glob("[!_]*.py")),
]
INTERFACE = ("errors", "method", "plan", "reads", "sizes")
FAMILY_FILES = [
    f"methods/adapters/{p.name}"
    for p in (ROOT / "methods/adapters").glob("*.py")
    if p.name != "__init__.py"
]
WITHOUT_TRANSFORMERS = [f"methods/{name}.py" for name in (*INTERFACE, "interface", "tensors")]

# what a file may import of the project; a prefix ending in "." allows everything below it
ALLOWED = {
    "methods/errors.py": [],
    "methods/sizes.py": ["methods.errors"],
    "methods/reads.py": ["methods.errors"],
    "methods/plan.py": ["methods.reads", "methods.sizes"],
    "methods/method.py": ["methods.errors", "methods.plan", "methods.reads", "methods.sizes"],
    "methods/interface.py": [f"methods.{part}" for part in INTERFACE],
    "methods/planning.py": [f"methods.{part}" for part in INTERFACE],
    "methods/crops.py": [
        *(
            "methods.cuts",
            "methods.framewise",
            "methods.plan",
            "methods.planning",
            "methods.tensors",
            "methods.reads",
            "methods.sizes",
        ),
    ],
    "methods/framewise.py": [
        *("methods.clips", "methods.plan", "methods.planning", "methods.reads", "methods.sizes"),
    ],
    "methods/registry.py": ["methods.user_code", *(f"methods.{part}" for part in INTERFACE)],
    "methods/user_code.py": [],
    "methods/tensors.py": ["methods.plan", "methods.sizes"],
    "methods/positions.py": ["methods.errors", "methods.plan", "methods.reads", "methods.sizes"],
    "methods/sequence.py": ["methods.plan", "methods.tensors"],
    "methods/attention.py": [],
    "methods/clock.py": [],
    "methods/encoding.py": [],
    "methods/family.py": [
        *("methods.attention", "methods.encoding", "methods.errors", "methods.sizes"),
    ],
    "methods/tower_family.py": [
        *("methods.encoding", "methods.errors", "methods.family", "methods.sizes"),
    ],
    "methods/encoder_calls.py": ["methods.errors", "methods.family", "methods.sizes"],
    "methods/recording.py": ["methods.attention"],
    "methods/trace.py": ["methods.encoding", "methods.errors", "methods.plan", "methods.sizes"],
    "methods/clustering.py": ["methods.tensors"],
    "methods/clip_checkpoint.py": ["methods.errors"],
    "methods/windows.py": ["methods.sizes"],
    "methods/relevance.py": ["methods.clip_checkpoint", "methods.errors", "methods.reads"],
    "methods/cuts.py": ["methods.errors", "methods.plan", "methods.sizes"],
    "methods/segmenting.py": ["methods.tensors"],
    "methods/merging.py": ["methods.errors", "methods.plan", "methods.tensors"],
    **{
        file: [
            *("methods.adapters._anyres", "methods.adapters._clip", "methods.adapters._decoder"),
            *("methods.adapters._frames", "methods.adapters._shuffled"),
            *("methods.attention", "methods.encoding", "methods.errors", "methods.family"),
            "methods.sizes",
            *("methods.merged_tower", "methods.tensors", "methods.tower_family"),
        ]
        for file in FAMILY_FILES
    },
    **{
        file: [
            *("methods.clips", "methods.clustering", "methods.crops", "methods.cuts"),
            *("methods.framewise", "methods.interface", "methods.tensors", "methods.windows"),
            *("methods.merging", "methods.planning", "methods.registry", "methods.segmenting"),
        ]
        for file in METHOD_FILES
    },
}
ALLOWED["baselines/cdpruner.py"] += ["methods.clip_checkpoint", "methods.relevance"]
ALLOWED["methods/adapters/qwen3_vl.py"].append("methods.adapters.qwen_vl")
HOOKS = {"register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"}
ROOMS = {
    "cli": {"run", "tables", "regress", "analysis", "records", "models", "embedded", "methods"},
    "run": {"accuracy", "efficiency", "models", "records", "embedded", "methods"},
    "accuracy": {"models", "records", "embedded", "methods"},
    "efficiency": {"models", "records", "methods"},
    "models": {"embedded", "methods"},
    "tables": {"analysis", "records", "embedded"},
    "analysis": {"records"},
    "records": {"methods"},
    "regress": {"run", "tables", "analysis", "records", "models"},
    "embedded": set(),
}
"""Which other rooms the files of a room may import; `errors` and `visible` are everybody's."""
READING = ("records", "analysis", "tables")
"""Rooms that never import torch, not even inside a function."""
LMMS = "harness/accuracy/lmms/"
WITHOUT_TORCH = [
    *("harness/cli/app.py", "harness/regress/gate.py"),
    *(
        path.relative_to(ROOT).as_posix()
        for room in READING
        for path in sorted((ROOT / "harness" / room).rglob("*.py"))
    ),
]


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("methods", "baselines", "harness"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imports(tree: ast.AST, at_import_time: bool = False) -> set[str]:
    """Modules that are imported; with `at_import_time` not those inside functions."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= _imported_from(node)
        elif at_import_time and _runs_later(node):
            continue
        else:
            found |= imports(node, at_import_time)
    return found


def _imported_from(node: ast.ImportFrom) -> set[str]:
    """`from harness import tables` names a room, `from harness.tables import x` is one already."""
    if node.module != "harness":
        return {node.module or ""}
    return {f"harness.{a.name}" if a.name in ROOMS else "harness" for a in node.names}


def _runs_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def of(package: str, modules: set[str]) -> set[str]:
    return {m for m in modules if m == package or m.startswith(f"{package}.")}


def violations(file: str, tree: ast.Module) -> list[str]:
    """Everything in one file that the architecture forbids."""
    modules, found = imports(tree), []
    own = of("methods", modules) | of("baselines", modules) | of("harness", modules)
    if file in ALLOWED:
        found += [f"imports {m}" for m in own if m not in ALLOWED[file]]
    if file in METHOD_FILES or file in WITHOUT_TRANSFORMERS:
        found += [f"imports {m}" for m in of("transformers", modules)]
    if not file.startswith("harness/"):
        found += [f"imports {m}" for m in of("harness", modules)]
    found += [f"imports {m}" for m in modules if not _admitted(file, m)]
    if of("lmms_eval", modules) and not file.startswith(LMMS):
        found.append("imports lmms_eval")
    if (
        of("lmms_eval", imports(tree, at_import_time=True))
        and file != "harness/accuracy/lmms/model.py"
    ):
        found.append("imports lmms_eval when it is imported")
    if file != "methods/runtime.py":
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        found += [f"calls {name}" for name in names & HOOKS]
    if not file.startswith(("methods/adapters/", "harness/embedded/")):
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        found += [
            f"knows {n}"
            for n in names & {"vision_tower", "multi_modal_projector", "language_model"}
        ]
    return found


def _admitted(file: str, module: str) -> bool:
    """Whether a file of a room may import `module`; the package itself is for its users."""
    parts, (package, *rest) = Path(file).parts, module.split(".")
    if parts[0] != "harness" or len(parts) < 3:
        return True
    room = parts[1]
    if room in READING and package in ("torch", "transformers"):
        return False
    if package not in ("methods", "baselines", "harness"):
        return True
    other = "methods" if package != "harness" else rest[0] if rest else "harness"
    return other in ROOMS[room] | {room, "errors", "visible"}


def test_the_rooms_are_the_folders():
    folders = {
        path.name for path in (ROOT / "harness").iterdir() if (path / "__init__.py").exists()
    }
    assert folders == ROOMS.keys()


def test_no_file_imports_what_it_must_not():
    found = {file: bad for file, tree in sources() if (bad := violations(file, tree))}
    assert not found


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("methods/vitcop.py", "from methods.runtime import attach"),
        ("baselines/fastv.py", "import transformers"),
        ("baselines/random.py", "from harness.records.file import write"),
        ("baselines/fastervlm.py", "from baselines.hired import HiRED"),
        ("methods/tensors.py", "def f():\n    import methods.registry"),
        ("harness/analysis/stats.py", "import lmms_eval"),
        ("harness/accuracy/instrument.py", "from lmms_eval import evaluator"),
        ("harness/accuracy/instrument.py", "def f():\n    import lmms_eval"),
        ("harness/efficiency/instrument.py", "module.register_forward_hook(f)"),
        ("harness/accuracy/instrument.py", "model.model.vision_tower"),
        ("harness/tables/page/plots.py", "def f():\n    import torch"),
        ("harness/analysis/rows.py", "from harness import Cell"),
        ("methods/generation.py", "from harness import errors"),
    ],
)
def test_the_walk_can_fail(file, code):
    assert violations(file, ast.parse(code))


@pytest.mark.parametrize("room", ROOMS)
def test_every_arrow_that_is_not_drawn_is_found(room):
    for other in {*ROOMS, "methods"} - ROOMS[room] - {room}:
        module = "methods" if other == "methods" else f"harness.{other}"
        for code in (f"import {module}", f"def f():\n    from {module}.x import y"):
            assert violations(f"harness/{room}/x.py", ast.parse(code)), other
        if other != "methods":
            assert violations(f"harness/{room}/x.py", ast.parse(f"from harness import {other}"))


def reached(file: str) -> set[str]:
    """Modules that importing `file` imports, through the project's own files."""
    seen: set[str] = set()
    todo = [file]
    while todo:
        path = ROOT / todo.pop()
        for module in imports(ast.parse(path.read_text()), at_import_time=True) - seen:
            seen.add(module)
            own = ROOT / (module.replace(".", "/") + ".py")
            package = ROOT / module.replace(".", "/") / "__init__.py"
            todo += [p.relative_to(ROOT).as_posix() for p in (own, package) if p.exists()]
    return seen


@pytest.mark.parametrize("file", WITHOUT_TORCH)
def test_tables_and_the_command_line_start_without_torch(file):
    assert not of("torch", reached(file)) | of("transformers", reached(file))


def test_the_reach_can_fail():
    assert of("torch", reached("methods/runtime.py"))
    assert of("transformers", reached("methods/runtime.py"))


def modules(*packages: str) -> dict[str, ast.Module]:
    """The sources by the names that they are imported under."""
    return {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree
        for file, tree in sources()
        if file.split("/")[0] in packages
    }


def circle(files: Mapping[str, ast.Module]) -> list[str]:
    """Modules each of which imports the next, be it in a function, and the last the first again."""
    graph = {name: _named(tree, files) - {name} for name, tree in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def _named(node: ast.AST, known: Collection[str]) -> set[str]:
    """Which of the known modules it imports; not those for types alone."""
    if isinstance(node, ast.If) and _runs_later(node):
        return set()
    found: set[str] = set()
    if isinstance(node, ast.Import):
        found = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        # a package's name stands before its modules', which are meant then
        meant = {f"{node.module}.{alias.name}" for alias in node.names} & set(known)
        found = meant or {str(node.module)}
    return (found & set(known)).union(*(_named(c, known) for c in ast.iter_child_nodes(node)))


@pytest.mark.parametrize("package", ["methods", "harness"])
def test_modules_import_one_another_in_no_circle(package):
    assert not circle(modules(package))


@pytest.mark.parametrize("where", ["methods.clock", "harness.errors"])
@pytest.mark.parametrize("code", ["from {0} import x", "def f():\n    import {0}"])
def test_a_planted_circle_is_found(where, code):
    far = {"methods.clock": "methods.runtime", "harness.errors": "harness.run.compare"}[where]
    planted = modules("methods", "harness") | {where: ast.parse(code.format(far))}
    assert {where, far} & {*circle(planted)}
    types = f"if TYPE_CHECKING:\n    from {far} import x"
    assert not circle(planted | {where: ast.parse(types)})
