"""dvc.yaml against the code: exact deps, exact params, one name for stage and script."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from graph_closure import ROOT, closure, code_of, imported_modules, is_code, listed, parameters, widest

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = PIPELINE["stages"]
ROOMS = {  # the rooms a room may import, besides itself and the base
    "report": set(),
    "catalog": set(),
    "training": set(),
    "retrieval": set(),
    "encoding": {"catalog", "training"},
    "supervision": {"retrieval", "catalog"},
    "evaluation": {"retrieval", "catalog"},
    "serving": {"evaluation", "supervision", "encoding", "retrieval", "training", "catalog", "report"},
}


@pytest.mark.parametrize("name", sorted(STAGES))
def test_deps_are_the_import_closure(name: str) -> None:
    named = {dep for dep in STAGES[name]["deps"] if is_code(dep)}
    reached = closure(ROOT / "stages" / f"{name}.py")
    assert named == listed(reached), "run: python tests/graph_closure.py --write"
    assert {file for dep in named for file in (code_of(ROOT / dep) or {dep})} == reached


@pytest.mark.parametrize("name", sorted(STAGES))
def test_params_are_those_read(name: str) -> None:
    assert list(STAGES[name]["params"]) == widest(parameters(ROOT / "stages" / f"{name}.py"))


@pytest.mark.parametrize("name", sorted(STAGES))
def test_paths_stand_in_the_command(name: str) -> None:
    """Every data dep and every out lies at or below a path that the command names, a file's manifest beside it."""
    stage = STAGES[name]
    command = stage["cmd"].split()
    data = [dep for dep in stage["deps"] if not is_code(dep) and not dep.startswith("${")]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"] + stage.get("metrics", [])]
    beside = {f"{Path(word).with_suffix('')}.manifest.json" for word in command}
    for path in data + outs:
        assert path in beside or any(path == word or path.startswith(f"{word}/") for word in command), path


def test_every_stage_is_described_and_has_its_script() -> None:
    for name, stage in STAGES.items():
        assert stage["desc"]
        assert f"-m stages.{name} " in stage["cmd"]


def test_scripts_are_thin() -> None:
    for script in (ROOT / "stages").glob("*.py"):
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 80, script


def test_rooms_import_only_downwards() -> None:
    for file in (ROOT / "lib").rglob("*.py"):
        room = file.relative_to(ROOT / "lib").parts[0].removesuffix(".py")
        for name in imported_modules(file):
            parts = name.split(".")
            target = parts[1] if len(parts) > 1 else ""
            if target in ROOMS and target != room:
                assert target in ROOMS.get(room, set()), f"{file.relative_to(ROOT)} reaches up to {name}"


@pytest.mark.parametrize(
    ("library", "room"), [("open_clip", "encoding"), ("faiss", "retrieval"), ("ray", "encoding")]
)
def test_a_library_has_one_room(library: str, room: str) -> None:
    for file in (ROOT / "lib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == library for name in names):
                assert file.relative_to(ROOT / "lib").parts[0] == room, file


def test_package_files_hold_a_docstring_only() -> None:
    """They are left out of the deps, so nothing may happen in them.

    Only `lib` itself may also set defaults of environment variables, of those that no byte of an out depends on, and
    `stages` when garbage is collected.
    """
    for file in [*(ROOT / "lib").rglob("__init__.py"), ROOT / "stages" / "__init__.py"]:
        docstring, *rest = ast.parse(file.read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant), file
        if file == ROOT / "lib" / "__init__.py":
            done = [ast.unparse(statement) for statement in rest]
            assert done == [
                "import os",
                "os.environ.setdefault('GOMP_SPINCOUNT', '10000')",
                "os.environ.setdefault('OPENBLAS_THREAD_TIMEOUT', '4')",
                "os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')",
                "os.environ.setdefault('ARROW_DEFAULT_MEMORY_POOL', 'system')",
            ]
        elif file == ROOT / "stages" / "__init__.py":
            done = [ast.unparse(statement) for statement in rest]
            assert done == ["import gc", "import sys", "if sys.argv[0] == '-m':\n    gc.disable()"]
        else:
            assert not rest, file


def test_no_drawer_for_everything() -> None:
    for word in ("utils", "common", "helpers"):
        assert not list((ROOT / "lib").rglob(f"{word}.py"))


def test_every_out_is_ignored_or_committed_on_purpose() -> None:
    """Cached outs are in .gitignore in advance; uncached ones are not."""
    import subprocess

    for stage in STAGES.values():
        models = stage.get("matrix", {}).get("model", [""])
        for out in stage["outs"] + stage.get("metrics", []):
            path, cached = (out, True) if isinstance(out, str) else (next(iter(out)), False)
            for model in models:
                real = path.replace("${item.model}", model)
                # a folder rule matches only what exists or ends in a slash
                code = subprocess.run(["git", "check-ignore", "-q", f"{real}/x" if cached else real], cwd=ROOT)
                assert (code.returncode == 0) == cached, real


def test_dvc_models_are_registered() -> None:
    for name, entry in PIPELINE["artifacts"].items():
        assert entry["type"] == "model" and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_lock_is_committed_and_complete() -> None:
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    expected = {name for name, stage in STAGES.items() if "matrix" not in stage}
    expected |= {f"{n}@{m}" for n, s in STAGES.items() for m in s.get("matrix", {}).get("model", [])}
    assert set(lock["stages"]) == expected


def test_closure_sees_nested_imports(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from lib.catalog import images\n")
    assert "lib.catalog.images" in imported_modules(file)


def test_plots_name_columns_that_the_committed_curves_have() -> None:
    """DVC draws nothing, and hardly says so, when a field is missing."""
    plots = [plot for entry in PIPELINE["plots"] if isinstance(entry, dict) for plot in entry.values()]
    drawn = {(file, field) for plot in plots for file, field in plot["y"].items()}
    assert len(drawn) == 3
    for file, field in drawn:
        columns = (ROOT / file).read_text(encoding="utf-8").splitlines()[0].split(",")
        assert field in columns and "epoch" in columns


def test_a_replaced_weights_file_is_noticed() -> None:
    """`backbone.checkpoint` is a dep, not only a name among the parameters."""
    assert "${backbone.checkpoint}" in PIPELINE["stages"]["prepare_backbone"]["deps"]
    for file in (ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))):
        assert (ROOT / yaml.safe_load(file.read_text(encoding="utf-8"))["backbone"]["checkpoint"]).exists(), file
