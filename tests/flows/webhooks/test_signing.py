"""Signatures and formats: foreign test vectors verify, ours do too, and a CloudEvent has its required attributes."""

import base64
import dataclasses
import datetime as dt
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from service.flows.webhooks.endpoints import new_secret
from service.flows.webhooks.signing import CLOUDEVENTS, signed_headers, signed_request
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message
from tests.support.values import NOW, a_message, a_task, later, new_id

VECTORS = sorted((Path(__file__).parents[2] / "recordings" / "standard-webhooks" / "vectors").glob("*.json"))
SECRET, OLD = "whsec_" + "QUFB" * 8, "whsec_" + "QkJC" * 8


def signature_of(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature by the specification, calculated without the code under test."""
    key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    return base64.b64encode(hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)).decode()


def test_vectors_are_genuine_and_forged() -> None:
    readings = [json.loads(path.read_text())["reading"]["verified"] for path in VECTORS]
    assert (len(VECTORS), set(readings)) == (8, {True, False})


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector_is_signed_as_recorded(path: Path) -> None:
    """The signed request equals the vector exactly: same body, time and secret."""
    vector = json.loads(path.read_text())
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    message_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    genuine = False
    if message_id is not None and timestamp is not None:
        at = dt.datetime.fromtimestamp(int(timestamp), dt.UTC)
        ours = signed_headers(vector["secret"], message_id, at, vector["raw_body"])
        assert (ours["webhook-id"], ours["webhook-timestamp"]) == (message_id, timestamp)
        genuine = ours["webhook-signature"] in headers["webhook-signature"].split(" ")
    assert genuine == vector["reading"]["verified"]


@given(st.text(), st.floats(1e9, 4e9))
def test_any_body_is_signed_as_specified(body: str, seconds: float) -> None:
    body, at = body.encode("utf-8", "ignore").decode(), dt.datetime.fromtimestamp(seconds, dt.UTC)
    headers = signed_headers(SECRET, "message", at, body, also=[OLD])
    new, old = headers["webhook-signature"].split(" ")
    timestamp = headers["webhook-timestamp"]
    assert int(timestamp) == at.timestamp() // 1
    assert new == "v1," + signature_of(SECRET, "message", timestamp, body.encode())
    assert old == "v1," + signature_of(OLD, "message", timestamp, body.encode())


def test_new_secrets_are_long_and_unique() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64.b64decode(each.removeprefix("whsec_"))) for each in made} == {32}


def an_endpoint(**more: Any) -> Endpoint:
    plain = {"id": new_id(), "client": "default", "url": "http://x", "secret": SECRET}
    return Endpoint(**{**plain, "created_at": NOW, "updated_at": NOW, **more})


def a_told(**more: Any) -> Message:
    body = {"type": "task.running", "timestamp": "2026-03-01T12:30:15.250Z", "sequence": 7, "data": {"id": "…"}, **more}
    message = a_message(a_task(), type="task.running", sequence=7)
    return dataclasses.replace(message, body=json.dumps(body))


@pytest.mark.parametrize(
    ("until", "signers"), [(later(1), [SECRET, OLD]), (NOW, [SECRET]), (later(-1), [SECRET]), (None, [SECRET])]
)
def test_previous_secret_signs_until_its_expiry(until: dt.datetime | None, signers: list[str]) -> None:
    message = a_told()
    endpoint = an_endpoint(previous_secret=None if until is None else OLD, previous_until=until)
    headers, body = signed_request(message, endpoint, at=NOW, secrets=["whsec_AAAA"], source=None)
    expected = [
        f"v1,{signature_of(each, str(message.id), headers['webhook-timestamp'], body.encode())}" for each in signers
    ]
    assert headers["webhook-signature"].split(" ") == expected
    assert (headers["Content-Type"], body) == ("application/json", message.body)


def test_message_to_a_callback_url_is_signed_by_the_given_secret() -> None:
    message = a_told()
    headers, body = signed_request(message, None, at=NOW, secrets=[OLD], source=None)
    assert headers["webhook-signature"] == Webhook(OLD).sign(str(message.id), NOW, body)
    headers, _ = signed_request(message, None, at=NOW, secrets=[SECRET, OLD], source=None)
    assert headers["webhook-signature"].split(" ") == [
        Webhook(each).sign(str(message.id), NOW, body) for each in (SECRET, OLD)
    ]


@pytest.mark.parametrize("source", ["https://dovecote.example.com", None])
def test_cloud_event_is_valid_and_signed(source: str | None) -> None:
    message = a_told(data={"id": "…", "truncated": True, "url": "/v1/tasks/7"})
    headers, body = signed_request(message, an_endpoint(format="cloudevents"), at=NOW, secrets=[OLD], source=source)
    assert headers["Content-Type"] == CLOUDEVENTS == "application/cloudevents+json"
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": str(message.id),
        "source": source or "urn:dovecote",
        "type": "task.running",
        "subject": f"tasks/{message.task_id}",
        "time": "2026-03-01T12:30:15.250Z",
        "datacontenttype": "application/json",
        "sequence": "7",
        "data": {"id": "…", "truncated": True, "url": "/v1/tasks/7"},
    }
    extensions = set(json.loads(body)) - {"specversion", "id", "source", "type", "subject", "time", "data"}
    assert all(name.isalnum() and name == name.lower() for name in extensions)  # CloudEvents 1.0, 3.1
    expected = signature_of(SECRET, str(message.id), headers["webhook-timestamp"], body.encode())
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_cloud_event_without_a_task_has_no_subject() -> None:
    message = dataclasses.replace(a_told(), task_id=None)
    _, body = signed_request(message, an_endpoint(format="cloudevents"), at=NOW, secrets=[OLD], source=None)
    assert "subject" not in json.loads(body)
