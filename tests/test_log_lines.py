"""Every line of the log is an event with fields: the arguments of a template are named."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
ARGUMENT = re.compile(r"(?P<field>[a-z][a-z0-9_]*=)?%[-#0 +]*\d*(?:\.\d+)?[sdrfgx]")
BUILT = {"service/flows/assets/keep.py"}
"""Files with an event of two words, of which an argument is one."""


def templates(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the templates of the log calls of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            called = node.func.value
            if isinstance(called, ast.Name) and called.id in {"log", "logger"}:
                yield from (
                    (node.lineno, each.value)
                    for each in node.args[:2]
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )


def test_arguments_of_log_lines_are_fields() -> None:
    unnamed = [
        f"{path.relative_to(ROOT)}:{line} {template}"
        for path in sorted((ROOT / "service").rglob("*.py"))
        if path.relative_to(ROOT).as_posix() not in BUILT
        for line, template in templates(path)
        if any(found["field"] is None for found in ARGUMENT.finditer(template.replace("%%", "")))
    ]
    assert unnamed == []


def test_unnamed_argument_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text('log.info("read %s of=%d", 1, 2)\n')
    [(_, template)] = templates(tmp_path / "x.py")
    assert [found["field"] for found in ARGUMENT.finditer(template)] == [None, "of="]
