"""What each stage's code really reaches: its import closure and the parameters that it reads.

DVC does not follow imports, so `dvc.yaml` lists them; `test_graph.py` compares. After adding an import run
`python tests/graph_closure.py --write`, which rewrites the code part of every stage's deps and its params.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent


def imported_modules(file: Path) -> set[str]:
    """Dotted names of `lib` modules that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "lib"}


def resources(file: Path) -> set[str]:
    """Files beside a module that it names in a string literal, such as a template."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 80:
            for folder in (file.parent, file.parent / "templates"):
                candidate = folder / node.value
                if "\n" not in node.value and candidate.suffix and candidate.is_file():
                    found.add(str(candidate.relative_to(ROOT)))
    return found


def closure(script: Path) -> set[str]:
    """Paths, relative to the root, of every file whose change can change what a script does."""
    seen: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in imported_modules(file):
            target = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if target.is_file():
                waiting.append(target)
    named = {str(file.relative_to(ROOT)) for file in seen}
    return named.union(*(resources(file) for file in seen))


def listed(files: set[str]) -> set[str]:
    """What `dvc.yaml` names of a closure: the folder where it reaches every file of one, else the file.

    A folder says no less than its files and is one entry of `dvc.lock` in place of many: DVC reads and writes the
    whole lock after every stage.
    """
    folders = [folder for folder in sorted((ROOT / "lib").rglob("*")) if folder.is_dir() and code_of(folder)]
    for folder in folders:
        inside = code_of(folder)
        if len(inside) > 1 and inside <= files:
            files = files - inside | {str(folder.relative_to(ROOT))}
    return files


def code_of(folder: Path) -> set[str]:
    """Every file at any depth of a folder; package files hold a docstring only."""
    return {
        str(file.relative_to(ROOT))
        for file in folder.rglob("*")
        if file.is_file() and file.name != "__init__.py" and "__pycache__" not in file.parts
    }


def parameters(script: Path) -> set[str]:
    """The widest `params.a.b` chains that a stage script reads."""
    chains: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            chain = _chain(node)
            if chain is not None:
                chains.add(chain)
    return {c for c in chains if not any(c != other and other.startswith(f"{c}.") for other in chains)} | {
        c for c in chains if _used_whole(script, c)
    }


def _chain(node: ast.Attribute) -> str | None:
    parts = [node.attr]
    value = node.value
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    return ".".join(reversed(parts)) if isinstance(value, ast.Name) and value.id == "params" else None


def _used_whole(script: Path, chain: str) -> bool:
    """Whether the chain appears somewhere without a further attribute."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    whole = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and id(n) not in inner]
    return any(_chain(n) == chain for n in whole)


def widest(chains: set[str]) -> list[str]:
    """Drop a key whose section is listed as a whole."""
    return sorted(c for c in chains if not any(c.startswith(f"{other}.") for other in chains))


def is_code(dep: str) -> bool:
    """Whether a dep is part of the code and not of the data."""
    return dep.startswith(("lib/", "stages/"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="rewrite dvc.yaml")
    args = parser.parse_args()
    yaml = YAML()
    yaml.width = 118
    yaml.indent(mapping=2, sequence=4, offset=2)
    file = ROOT / "dvc.yaml"
    pipeline = yaml.load(file.read_text(encoding="utf-8"))
    for name, stage in pipeline["stages"].items():
        script = ROOT / "stages" / f"{name}.py"
        data = [dep for dep in stage.get("deps", []) if not is_code(dep)]
        stage["deps"] = data + sorted(listed(closure(script)))
        stage["params"] = widest(parameters(script))
        if args.write:
            continue
        print(f"{name}: {len(stage['deps'])} deps, params {', '.join(stage['params'])}")
    if args.write:
        with open(file, "w", encoding="utf-8") as stream:
            yaml.dump(pipeline, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
