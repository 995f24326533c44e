"""Long answers of hostile gateways are read in a moment: no pattern looks at a text again and again."""

import json
import time
from collections.abc import Callable

import pytest

from service.providers.openai.chat import pictures_in
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from service.web.dashboard.bodies import body_of

SIZE = 300_000
UNITS = [
    "[",
    "![",
    "](",
    "[](http://",
    "![](http://",
    "![](http://a(",
    "![](data:image/",
    "http://",
    "[a](http://a ",
    "id: `",
    "reason",
]


def quickly(read: Callable[[], object]) -> object:
    began = time.perf_counter()
    found = read()
    assert time.perf_counter() - began < 5, "it took far too long"
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_text_of_a_chat_is_read_in_a_moment(unit: str) -> None:
    text = unit * (SIZE // len(unit))
    quickly(lambda: pictures_in(text))
    body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
    for name in ("veo/chat", "sora/reverse"):
        quickly(lambda name=name: DIALECTS[name].read_created(Reply(200, {}, body)))  # type: ignore[misc]


@pytest.mark.parametrize(
    "text", ['{"' + '\\"' * 9_990, "{" + '\\"' * 9_990, "{" + '\\"\\\\' * 4_990, '{"a": 1' + "-" * 19_000]
)
def test_stored_body_is_shown_in_a_moment(text: str) -> None:
    assert str(quickly(lambda: body_of("Body", text).markup))


def test_parts_of_a_body_are_marked() -> None:
    shown = str(body_of("Body", '{"a \\"b\\"": "c", "n": [1, null], "cut": "of').markup)
    for part, kind in (('"a \\"b\\""', "k"), ('"c"', "s"), ("1", "v"), ("null", "v"), ('"of', "s")):
        assert f'<span class="{kind}">{part.replace(chr(34), "&#34;")}</span>' in shown


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("![a](https://c.test/a.png)", ["https://c.test/a.png"]),
        ('![a [b](  <https://c.test/a?x[]=1> "title")', ["https://c.test/a?x[]=1"]),
        (
            "![a](data:image/png;base64,iVBORw0KGgo=) ![b](https://c.test/b)",
            ["data:image/png;base64,iVBORw0KGgo=", "https://c.test/b"],
        ),
        ("see https://c.test/a.PNG?x=1.", ["https://c.test/a.PNG?x=1."]),
        ("see https://c.test/a.png, or https://c.test/b.html", ["https://c.test/a.png"]),
        (f"![{'long ' * 500}](https://c.test/a.png)", ["https://c.test/a.png"]),
        ("![a](https://c.test/a(b)", ["https://c.test/a(b"]),
        ("nothing", []),
    ],
)
def test_pictures_of_a_text_are_found(text: str, found: list[str]) -> None:
    assert pictures_in(text) == found
