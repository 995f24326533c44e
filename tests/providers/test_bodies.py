"""Bodies: packing, encodings, and documents in forms and texts."""

import gzip
import json
import zlib
from urllib.parse import urlencode

import brotli
import pytest

from service.providers import read
from service.providers.read import fields, items
from service.providers.wire import Callback, Reply

DOCUMENT = {"code": 1, "description": "提交成功", "result": "1700000000000001"}
TEXT = json.dumps(DOCUMENT, ensure_ascii=False)
PLAIN = TEXT.encode()


def packed_with(body, wbits):
    packed = zlib.compressobj(wbits=wbits)
    return packed.compress(body) + packed.flush()


BODIES = {
    "plain": (PLAIN, {}),
    "gzip without a header": (gzip.compress(PLAIN), {}),
    "gzip twice": (gzip.compress(gzip.compress(PLAIN)), {"Content-Encoding": "gzip"}),
    "zlib without a header": (zlib.compress(PLAIN), {}),
    "raw deflate": (packed_with(PLAIN, -zlib.MAX_WBITS), {"content-encoding": "deflate"}),
    "gzip of two members": (gzip.compress(PLAIN[:20]) + gzip.compress(PLAIN[20:]), {}),
    "zlib with a small window": (packed_with(PLAIN, 9), {}),
    "raw deflate without a header": (packed_with(PLAIN, -zlib.MAX_WBITS), {}),
    "brotli without a header": (brotli.compress(PLAIN), {}),
    "declared packing that is not there": (PLAIN, {"content-encoding": "gzip"}),
    "byte order mark": (b"\xef\xbb\xbf" + PLAIN, {}),
    "UTF-16": (TEXT.encode("utf-16"), {}),
    "UTF-16 without a mark": (TEXT.encode("utf-16-le"), {}),
    "UTF-32": (TEXT.encode("utf-32"), {}),
    "declared GBK": (TEXT.encode("gbk"), {"content-type": "application/json; charset=GBK"}),
    "declared GB2312 in quotes": (TEXT.encode("gb2312"), {"content-type": 'text/plain; charset="gb2312"'}),
    "declared charset that is not known": (PLAIN, {"content-type": "text/plain; charset=klingon"}),
    "declared charset that it is not in": (PLAIN, {"content-type": "text/plain; charset=ascii"}),
    "second object behind": (PLAIN + PLAIN, {}),
    "warning of PHP before it": (b"<br />\n<b>Warning</b>: Undefined index in <b>/a.php</b><br />\n" + PLAIN, {}),
    "padding of a call back": (b"callback(" + PLAIN + b");", {"content-type": "text/javascript"}),
    "event of a stream": (b"event: message\ndata: " + PLAIN + b"\n\n", {"content-type": "text/event-stream"}),
    "guard against scripts": (b")]}',\n" + PLAIN, {}),
    "length of a chunk": (b"5c\r\n" + PLAIN + b"\r\n0\r\n\r\n", {}),
    "NUL bytes before it": (b"\x00\x00" + PLAIN, {}),
    "fence of Markdown": (b"```json\n" + PLAIN + b"\n```", {}),
    "JSON in a text in a text": (json.dumps(json.dumps(TEXT)).encode(), {}),
    "JSON in a JSON text": (json.dumps(TEXT).encode(), {}),
    "form with one field": (urlencode({"data": TEXT}).encode(), {"content-type": read._FORM}),
}


@pytest.mark.parametrize("name", BODIES)
def test_document_is_read(name):
    body, headers = BODIES[name]
    assert Reply(200, headers, body).document == DOCUMENT
    assert Callback(headers, body).document == DOCUMENT


@pytest.mark.parametrize("body", [PLAIN.replace("提交成功".encode(), "提交成功".encode()[:-1]), TEXT.encode("gbk")])
def test_id_is_read_although_a_character_is_broken(body):
    assert Reply(200, {}, body).document["result"] == DOCUMENT["result"]


def test_line_end_within_a_text_is_accepted():
    assert Reply(200, {}, PLAIN.replace("提".encode(), b"\r\n\t")).document["result"] == DOCUMENT["result"]


@pytest.mark.parametrize(
    "text",
    [
        '{"code": 200, "data": {"task_id": "t1"}',
        'callback({"code": 200, "data": {"task_id": "t1"}',
        '[{"task_id": "t1"}, {"task_id": ',
        '<html><body>502<script>var a = {"task_id": "t1"}</script></body></html>',
        '<!DOCTYPE html><script type="application/ld+json">{"task_id": "t1"}</script>',
        "no object {} at all",
        "x" * 5000 + '{"task_id": "t1"}',
    ],
)
def test_part_of_a_document_or_of_a_page_is_no_document(text):
    assert Reply(200, {}, text.encode()).document is read.NOTHING


@pytest.mark.parametrize("text", ["(x) and more", "h\x81", "HTTP 502", "x^2", "8K video"])
def test_text_is_not_taken_for_packed(text):
    assert Reply(200, {}, text.encode()).text == text


def test_form_is_read_by_its_fields():
    form = urlencode({"task_id": "t1", "status": "3", "data": '{"a": 1}'}).encode()
    headers = {"Content-Type": read._FORM + "; charset=utf-8"}
    assert Callback(headers, form).document == {"task_id": "t1", "status": "3", "data": {"a": 1}}


def test_packed_body_that_is_too_large_is_not_unpacked():
    assert Reply(200, {}, gzip.compress(b"[" + b"0," * read.MAX_BODY + b"0]")).document is read.NOTHING


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_cut_packed_body_does_not_raise(cut):
    assert Reply(200, {}, gzip.compress(PLAIN)[:cut]).document in (read.NOTHING, DOCUMENT)


@pytest.mark.parametrize("value", ['{"a": 1}', ' {"a": 1} ', [{"a": 1}], '[{"a": 1}]', {"a": 1}])
def test_object_is_read_from_a_text_and_from_a_list_of_one(value):
    assert fields(value) == {"a": 1}


def test_list_is_read_from_a_text():
    assert items("[1, 2]") == [1, 2]
    assert items(None) == []
    assert items("plain") == ["plain"]
    assert len(items([0] * 5000)) == read.MAX_ITEMS


def test_answer_shows_no_secret_in_any_spelling():
    secret = "sk-a/b+c&d"
    spelled = [secret, secret.replace("/", "\\/"), "sk-a%2Fb%2Bc%26d", "sk-a\\u002fb\\u002bc\\u0026d", "sk-a/b+c&amp;d"]
    for spelling in spelled:
        reply = Reply(400, {}, ('{"error":{"message":"key ' + spelling + ' is wrong"}}').encode(), "", (secret,))
        assert reply.document["error"]["message"] == "key [redacted] is wrong"
        assert secret not in reply.text


def test_answer_shows_no_callback_token():
    token = "A" * 40 + "b-_"
    body = json.dumps({"notifyHook": f"https://dovecote.example/callbacks/{token}"}).replace("/", "\\/").encode()
    reply = Reply(200, {}, gzip.compress(body))
    assert reply.document == {"notifyHook": "https://dovecote.example/callbacks/[redacted]"}
    assert token not in reply.text


def test_escaped_letters_of_a_secret_are_redacted():
    body = b'{"m": "\\u0073\\u006b-secret-key"}'
    assert Reply(200, {}, body, "", ("sk-secret-key",)).document == {"m": "[redacted]"}


@pytest.mark.parametrize("value", ["j" * 2001, "中" * 700, 10**2500, "x" * 5000, 0, 1.5, True, None, [], " "])
def test_value_that_is_no_id_or_too_long_for_one_is_no_id(value):
    assert read.identifier(value) is None


@pytest.mark.parametrize("value", ["j" * 2000, "中" * 600, 17, "0", " t-1 "])
def test_id_is_read(value):
    assert read.identifier(value) == str(value).strip()
