"""The parameters in a Midjourney prompt: each of V7, V8 and niji 7 is checked before the purchase."""

import pytest

from service.providers.midjourney.parameters import parameter_mistakes, parameters_in
from service.providers.registry import DIALECTS
from tests.support.operations import task

MJ = DIALECTS["midjourney/proxy"]


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat",
        "a cat --v 7 --ar 16:9 --stylize 1000 --chaos 100 --weird 3000 --q 4 --seed 4294967295 --exp 100 --raw",
        "a cat --v 8 --sref random --sv 6 --sw 1000 --q 2 --hd",
        "a cat --v 8.1 --sd --iw 3 --p abc def --draft --tile",
        "a cat --v 8.2 --sv 7 --sref https://example.com/a.png 123 --no dogs, cats",
        "a cat --v 7 --oref https://example.com/a.png --ow 1",
        "a cat --v 6.1 --cref https://example.com/a.png --cw 0 --q .5",
        "a cat --niji 6 --cref https://example.com/a.png --style cute",
        "a cat --niji 7 --style raw --sref 7",
        "a cat --version 5.2 --style=raw --q=.25",
        "portrait -- of a cat, 50--60 years, well--known --unknown 9",
        "a cat --repeat 1",
        r"a cat \{red, blue\} and {one}",
        "hot:: dog::2 --ar 1:1",
        "a cat --motion high --bs 2 --end https://example.com/a.png",
        "a cat --cref https://example.com/a.png",
    ],
)
def test_known_parameters_are_sent(prompt: str) -> None:
    assert list(parameter_mistakes(prompt)) == []


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("x --s 1001", "--s takes 0 to 1000, not '1001'"),
        ("x --stylize", "--s takes 0 to 1000, not nothing"),
        ("x --c 101", "--c"),
        ("x --weird 3001", "--w"),
        ("x --seed 4294967296", "--seed"),
        ("x --seed=-1", "--seed"),
        ("x --iw 3.5", "--iw"),
        ("x --ow 0", "--ow"),
        ("x --sw 1001", "--sw"),
        ("x --cw 200 --v 6", "--cw"),
        ("x --exp 200", "--exp"),
        ("x \u2014ar wide", "--ar takes two whole numbers"),
        ("x --aspect 1.91:1", "--ar"),
        ("x --v new", "--v takes the number"),
        ("x --v 7 --q 0.5", "--q of V7"),
        ("x --v 8 --quality 5", "--q of V8"),
        ("x --v 7 --cref https://a.example/1.png", "V7 has no --cref"),
        ("x --v 8.1 --cw 5", "V8.1 has no --cref and --cw"),
        ("x --niji 7 --cref https://a.example/1.png", "niji 7 has no --cref"),
        ("x --niji 7 --style expressive", "niji 7 has no --style expressive"),
        ("x --v 7 --style cute", "V7 has no --style cute"),
        ("x --v 6.1 --oref https://a.example/1.png", "V6.1 has no --oref"),
        ("x --v 7 --oref https://a.example/1.png --q 4", "--oref does not go with --q 4"),
        ("x --v 7 --hd", "V7 has no --hd"),
        ("x --v 6 --draft", "V6 has no --draft"),
        ("x --v 6 --exp 5", "V6 has no --exp"),
        ("x --v 8.2 --sv 5", "--sv of V8.2"),
        ("x --motion medium", "--motion takes low, high"),
        ("x --bs 3", "--bs takes 1, 2, 4"),
        ("x --r 4", "--repeat makes several jobs"),
        ("a {red, blue} bird", "makes a job for each choice"),
        ("a bird --ar {1:1, 16:9}", "makes a job for each choice"),
    ],
)
def test_parameter_that_is_refused_or_buys_several_jobs_is_a_mistake(prompt: str, named: str) -> None:
    assert any(named in each for each in parameter_mistakes(prompt)), list(parameter_mistakes(prompt))


def test_last_of_two_values_counts() -> None:
    assert parameters_in("x --s 5000 --s=100 word") == {"s": "100 word"}
    assert list(parameter_mistakes("x --s 5000 --s 100")) == []


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("imagine", {}),
        ("edits", {"image": "https://example.com/a.png"}),
        ("video", {"image": "https://example.com/a.png"}),
    ],
)
def test_mistake_names_the_prompt_of_each_operation_that_draws(operation: str, given: dict[str, str]) -> None:
    wrong = task("midjourney/proxy", f"midjourney {operation}", given={"prompt": "x --v 8 --s 2000", **given})
    assert [each.path for each in MJ.validate(wrong)] == ["input.prompt"]


def test_prompt_of_the_options_is_not_checked() -> None:
    own = task("midjourney/proxy", "midjourney imagine", given={"prompt": "x --s 2000"}, options={"prompt": "y"})
    assert MJ.validate(own) == []


@pytest.mark.parametrize("prompt", ["{" * 20000, "{" + "," * 20000, "--s " * 5000, "-" * 20000, "\u2014" * 20000])
def test_hostile_prompt_is_read_in_linear_time(prompt: str) -> None:
    list(parameter_mistakes(prompt))
