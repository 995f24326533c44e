"""Outputs: the addresses that are outputs, their hosts, and the number that a task keeps."""

import pytest

from service.domain.task import Action, Result, State, Update
from service.providers.outputs import MAX_ACTIONS, MAX_RESULTS, completed, is_internal
from service.providers.read import link, links
from service.providers.registry import DIALECTS
from service.providers.wire import Reply

GATEWAY = "https://gateway.example.com"


@pytest.mark.parametrize(
    "value",
    [
        "https://studio-api.prod.suno.com/api/forbidden",
        "https://studio-api.prod.suno.com/api/forbidden/?x=1",
        "https://cdn1.suno.ai/None.mp3",
        "https://cdn1.suno.ai/null.mp4",
        "https://cdn1.suno.ai/.mp3",
        "https://cdn1.suno.ai/sil-100.mp3",
        "https://cdn.example.com/undefined?token=1",
        "https://undefined/a.png",
        "https://cdn.example.com/tasks/null/output.mp4",
        "https://cdn.example.com/None/video.mp4",
        "https://cdn.example.com/nil.mp4",
        "https://cdn.example.com/false",
        "https://cdn.example.com/%5Bobject%20Object%5D",
        "https://cdn.example.com/{id}.mp4",
        "https://cdn.example.com/$%7Bid%7D.mp4",
        "https://cdn.example.com/video_placeholder.mp4",
        "https://via.placeholder.com/512",
        "https://",
        "https:///a.png",
        "https://[broken/a.png",
        "data:image/png;base64,",
        "ftp://cdn.example.com/a.png",
        "javascript:alert(1)",
        "processing",
        "/",
        "/imagine a cat",
        "https://cdn.example.com/" + "a" * 8192,
        "",
        None,
        7,
        {"url": None},
        {"url": "https://cdn.example.com/null"},
    ],
)
def test_placeholder_is_no_output(value):
    assert link(value) is None


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://cdn.example.com/a.mp4", "https://cdn.example.com/a.mp4"),
        ("HTTPS://CDN.example.com/A.mp4", "HTTPS://CDN.example.com/A.mp4"),
        (
            f"https://b.s3.amazonaws.com/a.mp4?X-Amz-Security-Token={'t' * 4000}",
            f"https://b.s3.amazonaws.com/a.mp4?X-Amz-Security-Token={'t' * 4000}",
        ),
        ({"url": "https://cdn.example.com/a.mp4"}, "https://cdn.example.com/a.mp4"),
        ('{"url": "https://cdn.example.com/a.mp4"}', "https://cdn.example.com/a.mp4"),
        ("data:image/png;base64,AA==", "data:image/png;base64,AA=="),
        ("/mj/image/1700", "/mj/image/1700"),
        ("//cdn.example.com/a.png", "//cdn.example.com/a.png"),
        ("https://cdn.example.com/forbidden/a.png", "https://cdn.example.com/forbidden/a.png"),
        ("https://cdn.example.com/none/a.png", "https://cdn.example.com/none/a.png"),
        ("https://cdn.example.com/placeholders.png", "https://cdn.example.com/placeholders.png"),
    ],
)
def test_address_is_an_output(value, url):
    assert link(value) == url


def test_relative_address_is_no_output_in_a_field_for_reasons():
    assert link("/mj/image/1", relative=False) is None


def test_list_in_a_text_is_read():
    assert links('["https://x.example/1.png", {"url": "https://x.example/2.png"}]') == [
        "https://x.example/1.png",
        "https://x.example/2.png",
    ]


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("/mj/image/1", f"{GATEWAY}/mj/image/1"),
        ("//cdn.example.com/a.png", "https://cdn.example.com/a.png"),
        ("http://localhost:3000/mj/image/1", f"{GATEWAY}/mj/image/1"),
        ("http://new-api:3000/mj/image/1", f"{GATEWAY}/mj/image/1"),
        ("http://127.0.0.1:3000/v1/videos/task_1/content", f"{GATEWAY}/v1/videos/task_1/content"),
        ("http://localhost:3000/files/a.png", "http://localhost:3000/files/a.png"),
        ("https://cdn.example.com/mj/image/1", "https://cdn.example.com/mj/image/1"),
        ("data:image/png;base64,AA==", "data:image/png;base64,AA=="),
    ],
)
def test_address_leads_to_the_upstream(url, becomes):
    update = completed(Update(state=State.SUCCEEDED, results=(Result("image", url),)), GATEWAY)
    assert [result.url for result in update.results] == [becomes]


def test_own_address_of_a_local_upstream_stays():
    url = "http://localhost:8090/mj/image/1"
    assert completed(Update(results=(Result("image", url),)), "http://localhost:8090").results[0].url == url


@pytest.mark.parametrize("url", ["http://localhost/a", "http://new-api:3000/a", "http://127.0.0.1/a"])
def test_internal_address_is_recognized(url):
    assert is_internal(url)
    assert not is_internal(
        url.replace("localhost", "a.example").replace("new-api", "b.c").replace("127.0.0.1", "8.8.8.8")
    )


def test_results_and_actions_are_bounded_and_the_rest_is_counted():
    results = tuple(Result("image", f"https://x.example/{number}.png") for number in range(MAX_RESULTS + 7))
    actions = tuple(Action(str(number), "U") for number in range(MAX_ACTIONS + 5))
    update = completed(Update(state=State.SUCCEEDED, results=results, actions=actions), GATEWAY)
    assert (len(update.results), len(update.actions), update.omitted) == (MAX_RESULTS, MAX_ACTIONS, 12)


def test_answer_with_very_many_outputs_is_read_in_part():
    body = (
        b'{"id":"t1","status":"SUCCEEDED","createdAt":"x","output":['
        + b'"https://x.example/a.png",' * 300_000
        + b'""]}'
    )
    update = DIALECTS["runway/official"].read_status(Reply(200, {}, body))
    assert 0 < len(update.results) <= 1000


@pytest.mark.parametrize("base_url", [GATEWAY, f"{GATEWAY}/", f"{GATEWAY}/openai"])
def test_route_of_the_api_is_below_the_whole_base_url(base_url):
    update = Update(state=State.SUCCEEDED, results=(Result("video", "/v1/videos/video_1/content"),))
    [result] = completed(update, base_url).results
    assert result.url == f"{base_url.rstrip('/')}/v1/videos/video_1/content"
