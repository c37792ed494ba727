"""How the code is built: `python -m tests.bench.shape [FOLDER]`.

Counts what a reader meets in a package: modules in its root, the largest file, lines of function bodies,
private functions that are called from one place, and rows of a database read by their columns' numbers.
"""

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median

from tests.support.places import ROOT

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
ROW_BY_NUMBER = re.compile(r"\brow\[\d+\]")


def body_lines(function: FunctionNode) -> int:
    """From the first statement to the last, without the docstring."""
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    statements = function.body[1:] if is_docstring and len(function.body) > 1 else function.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1


def functions_of(tree: ast.AST) -> list[FunctionNode]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def names_used(tree: ast.AST) -> Counter[str]:
    """How often each name is read, whether alone or behind a dot."""
    return Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    )


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "receiver"
    texts = {path: path.read_text() for path in sorted(folder.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    functions = {path: functions_of(tree) for path, tree in trees.items()}
    total = sum(map(len, functions.values()))
    bodies = sorted(body_lines(each) for found in functions.values() for each in found)
    once = 0
    for path, found in functions.items():
        used = names_used(trees[path])
        private = [each.name for each in found if each.name.startswith("_") and not each.name.endswith("__")]
        once += sum(used[name] == 1 for name in private)
    largest = max(texts, key=lambda path: len(texts[path].splitlines()))
    print(f"files                     {len(texts)}, of these in the root {len(list(folder.glob('*.py')))}")
    print(f"lines                     {sum(len(text.splitlines()) for text in texts.values()):,}")
    print(
        f"largest file              {largest.relative_to(folder)}, {len(texts[largest].splitlines())} lines"
    )
    print(f"functions                 {total}")
    longest = bodies[-1]
    print(
        f"lines of bodies           median {median(bodies):g}, p90 {bodies[total * 9 // 10]}, max {longest}"
    )
    print(f"private, one call         {once}, {once / total:.0%} of all functions")
    print(f"row[NUMBER]               {sum(len(ROW_BY_NUMBER.findall(text)) for text in texts.values())}")


if __name__ == "__main__":
    main()
