"""Measured rules of size and names: small files, a small interface for dialects, and the field's terms."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.providers.dialect import Dialect

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
MAX_METHODS = 12
MAX_ENTRIES = 18
LONG_FILES = {"service/store/tables.py"}
"""One page with all tables is easier to read than several."""

PROGRAMS = [path for folder in ("clients", "service", "tests", "migrations") for path in (ROOT / folder).rglob("*.py")]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "service").rglob("*.md")]
"""The decisions are left out: they name what they replaced."""

RETIRED_WORDS = re.compile(
    r"\b(bells?|lookout|lanes?|doorway|keyring|keybox|wish(?:es|ed)?|checkup|holder_only|try_out|write_down|look_at|rivals"
    r"|passed_over|learned_by|next_attention_at|place_in_line|verdict_by)\b|\bMOST_[A-Z]|\bAsked\b"
)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RETIRED_NAMES = words(
    "bell bells abroad lookout lane lanes underway rivals gates checkup dressed extras doorway keyring keybox patience"
    " wish holder_only write_down try_out books"
)
"""Names of anything: functions, classes, variables, parameters."""
RETIRED_FUNCTIONS = words(
    "tell owe told hear authentic recall inherit observed learn collapsed weigh unserved proves alone remark look look_at"
    " turns ahead enter crowded places standing instant sentence reach converse"
)
"""Names of functions and classes only: as words in a sentence they are plain English."""
SEEMS_RETIRED = re.compile(rf"\b_*(?:{'|'.join(RETIRED_NAMES | RETIRED_FUNCTIONS)})\b", re.IGNORECASE)
"""Any retired name, also in prose. A text without one defines none, and parsing it takes longer than searching it."""
RETIRED_MODULES = (
    RETIRED_NAMES | RETIRED_FUNCTIONS | words("timing rates key destination access reading exchange show page")
)


def names_in(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield every name that a module defines, and whether it is that of a function or class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, True
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, False
        elif isinstance(node, ast.arg):
            yield node.arg, False


def retired_in(text: str, *, stem: str = "", python: bool = True) -> set[str]:
    """Return the retired terms that a file contains."""
    found = {match[0] for match in RETIRED_WORDS.finditer(text)}
    if stem in RETIRED_MODULES:
        found.add(f"module {stem}")
    if python and SEEMS_RETIRED.search(text):
        for name, defined in names_in(ast.parse(text)):
            plain = name.lstrip("_") if not name.endswith("__") else name
            if plain.lower() in RETIRED_NAMES or (defined and plain.lower() in RETIRED_FUNCTIONS):
                found.add(name)
    return found


RIDDLES = words("What Who Whoever Whatever Whom Whose Nobody Else Least However")
"""A docstring that begins with one of these words makes the reader search for its subject."""
VAGUE_VERBS = words("Say Give Tell Let Look Owe Lend Hear Wish Whether Stand Have Hand Speak")
"""A function's docstring begins with what the function does or returns, in the field's terms."""


def docstrings_in(tree: ast.Module) -> Iterator[tuple[int, bool, str]]:
    """Yield each docstring of a module, class, function or value: its line, whether it is a function's, and its text."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for index, statement in enumerate(body if isinstance(body, list) else []):
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                continue
            if isinstance(statement.value.value, str) and statement.value.value:
                of_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and index == 0
                is_value = of_function and any("property" in ast.unparse(each) for each in node.decorator_list)
                yield statement.lineno, of_function and not is_value, statement.value.value


def unclear_in(text: str) -> list[tuple[int, str]]:
    """Return the lines and beginnings of the docstrings that break the rules of CONTRIBUTING.md, section Writing."""
    found = []
    for line, of_function, docstring in docstrings_in(ast.parse(text)):
        first = docstring.split(maxsplit=1)[0].strip(".,:;`") if docstring.strip() else ""
        if first in RIDDLES or (of_function and first in VAGUE_VERBS):
            found.append((line, docstring[:60]))
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_retired_name_is_used() -> None:
    found = {
        relative(path): retired_in(path.read_text(encoding="utf-8"), stem=path.stem)
        for path in PROGRAMS
        if path.name != Path(__file__).name
    }
    found |= {relative(path): retired_in(path.read_text(encoding="utf-8"), python=False) for path in PAGES}
    assert {name: terms for name, terms in found.items() if terms} == {}


@pytest.mark.parametrize(
    ("text", "retired"),
    [
        ("ring = 1  # the bell rings", {"bell"}),
        ("def look(): ...", {"look"}),
        ("def f(patience): ...", {"patience"}),
        ("MOST_STREAMS = 3", {"MOST_S"}),
        ("class _Gates: ...", {"_Gates"}),
        ("data = {'learned_by': 1}", {"learned_by"}),
        ("look = 1  # a look at the page", set()),
        ("class C:\n    def __enter__(self): ...", set()),
    ],
    ids=["word", "function", "parameter", "constant", "class", "field", "plain-english", "special-method"],
)
def test_retired_name_is_found(text: str, retired: set[str]) -> None:
    assert retired_in(text) == retired


def test_docstrings_begin_with_the_action_or_the_subject() -> None:
    programs = [path for path in PROGRAMS if re.match("clients/|migrations/|service/(?!providers/)", relative(path))]
    found = {relative(path): unclear_in(path.read_text(encoding="utf-8")) for path in programs}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("text", "unclear"),
    [
        ('"""What it does."""', True),
        ('def f():\n    """Tell the time."""', True),
        ('def f():\n    """Whether it is late."""', True),
        ('LIMIT = 3\n"""Who may pass."""', True),
        ('def f():\n    """Return the time."""', False),
        ('LIMIT = 3\n"""Whether it is late."""', False),
        ('class C:\n    @property\n    def late(self):\n        """Whether it is late."""', False),
    ],
    ids=["module", "vague-verb", "function-whether", "value", "return", "value-whether", "property"],
)
def test_unclear_docstring_is_found(text: str, unclear: bool) -> None:  # noqa: FBT001
    assert bool(unclear_in(text)) is unclear


CLOCK_AT_IMPORT = re.compile(
    r"^(?:\w+(?:: .+)? = |@).*(?:\.now\(|\btime\.time\(|monotonic\(\))|^def .*=.*\.now\(", re.MULTILINE
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("NOW = dt.datetime.now(dt.UTC)", True),
        ("NOW: Final = time.time()", True),
        ("def f(at=dt.datetime.now(dt.UTC)): ...", True),
        ('@pytest.mark.parametrize("at", [time.time()])', True),
        ("def f():\n    now = dt.datetime.now(dt.UTC)", False),
        ("NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)", False),
    ],
    ids=["constant", "annotated constant", "default", "row", "within a function", "fixed time"],
)
def test_clock_that_is_read_at_import_is_found(text: str, *, found: bool) -> None:
    assert bool(CLOCK_AT_IMPORT.search(text)) is found


def test_no_test_reads_the_clock_at_import() -> None:
    """Minutes pass before the last test of a run on a busy machine, and a signature is too old after five."""
    files = {path: path.read_text(encoding="utf-8") for path in PROGRAMS if relative(path).startswith("tests/")}
    assert [relative(path) for path, text in files.items() if CLOCK_AT_IMPORT.search(text)] == []


def test_no_file_of_code_is_too_long() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PROGRAMS}
    long = {name for name, lines in lengths.items() if lines > MAX_LINES and name.startswith(("service/", "clients/"))}
    assert long - LONG_FILES == set()


def test_dialect_has_few_methods() -> None:
    methods = [name for name, value in vars(Dialect).items() if callable(value) or isinstance(value, property)]
    assert len(methods) <= MAX_METHODS, methods


def test_flows_has_few_entries() -> None:
    entries = [path for path in (ROOT / "service/flows").iterdir() if path.name not in {"__init__.py", "__pycache__"}]
    assert len(entries) <= MAX_ENTRIES
