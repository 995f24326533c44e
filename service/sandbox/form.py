"""Reading of forms with files: a protocol sees their fields as it sees those of a JSON object."""

import email
import email.policy
from collections.abc import Mapping
from typing import Any, Final

CONTENT_TYPE: Final = "multipart/form-data"


def read_form(content_type: str, body: bytes) -> Mapping[str, Any] | None:
    """Return the fields of a form, or None where it has none. A file becomes its name, type and size; a repeated field a list."""
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    fields: dict[str, Any] = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            continue
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        value: Any = content.decode("utf-8", "replace")
        if part.get_filename() is not None:
            value = {"file": part.get_filename(), "content_type": part.get_content_type(), "size": len(content)}
        fields[name] = [*_listed(fields[name]), value] if name in fields else value
    return fields or None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
