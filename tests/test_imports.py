"""Who may import whom, read from the sources; and proof that the reading can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHOD_FILES = [
    "methods/vitcop.py",
    *(f"baselines/{p.name}" for p in (ROOT / "baselines").glob("[!_]*.py")),
]

# what a file may import of the project; a prefix ending in "." allows everything below it
ALLOWED = {
    "methods/interface.py": [],
    "methods/planning.py": ["methods.interface"],
    "methods/registry.py": ["methods.interface", "methods.user_code"],
    "methods/user_code.py": [],
    "methods/tensors.py": ["methods.interface"],
    "methods/sequence.py": ["methods.interface", "methods.tensors"],
    "methods/attention.py": [],
    "methods/recording.py": ["methods.attention"],
    "methods/trace.py": ["methods.interface"],
    "methods/adapters/llava.py": ["methods.attention", "methods.interface", "methods.tensors"],
    "methods/clustering.py": ["methods.tensors"],
    "methods/merging.py": ["methods.interface", "methods.tensors"],
    **{
        file: [
            *("methods.clustering", "methods.interface", "methods.merging", "methods.planning"),
            *("methods.registry", "methods.tensors"),
        ]
        for file in METHOD_FILES
    },
}
# on LLaVA-1.5 the same selection under two names
ALLOWED["baselines/hired.py"].append("baselines.fastervlm")
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
STILL = {
    ("harness/records/counted.py", "harness.selection_cost"),
    ("harness/run/cells.py", "harness.analysis.task_scores"),
    ("harness/run/compare.py", "harness.tables.layouts"),
    ("harness/run/compare.py", "harness.tables.page"),
    ("harness/run/compare.py", "harness.tables.table"),
    ("harness/run/matching.py", "harness.selection_cost"),
}
"""Arrows that go when measuring and printing are parted."""
UPWARD = {("harness/records/frames.py", "harness.analysis.fidelity")}
"""A frame has a column for each metric over answers, which follow from records."""
LMMS = ("harness/accuracy/lmms/", "harness/accuracy/instrument.py")
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
    if file in METHOD_FILES or file in ("methods/interface.py", "methods/tensors.py"):
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
    return other in ROOMS[room] | {room, "errors", "visible"} or (file, module) in STILL | UPWARD


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
