"""Odd responses that curl accepts. Each has the status 200 and the same body."""

OK = b"HTTP/1.1 200 OK\r\n"


def sized(body: bytes, *fields: bytes, line: bytes = OK) -> bytes:
    return line + b"".join(field + b"\r\n" for field in (b"Content-Length: %d" % len(body), *fields)) + b"\r\n" + body


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"id":"7"}'
WHOLE: dict[str, bytes] = {
    "plain": sized(BODY),
    "line feeds only": sized(BODY).replace(b"\r\n", b"\n"),
    "empty lines first": b"\r\n\r\n" + sized(BODY),
    "no reason phrase": sized(BODY, line=b"HTTP/1.1 200\r\n"),
    "a reason phrase that is not ASCII": sized(BODY, line="HTTP/1.1 200 Zażółć\r\n".encode()),
    "HTTP/1.0": sized(BODY, line=b"HTTP/1.0 200 OK\r\n"),
    "HTTP/2 in text": sized(BODY, line=b"HTTP/2 200\r\n"),
    "lower case": sized(BODY, line=b"http/1.1 200 ok\r\n"),
    "two spaces": sized(BODY, line=b"HTTP/1.1  200  OK\r\n"),
    "bytes after the end": sized(BODY) + b"\r\n\x00garbage HTTP/1.1 500\r\n\r\n",
    "a field of 10 kB": sized(BODY, b"Set-Cookie: " + b"a" * 10_000),
    "a field of 200 kB": sized(BODY, b"Set-Cookie: " + b"a" * 200_000),
    "900 fields": sized(BODY, *(b"X-%d: y" % number for number in range(900))),
    "3,000 fields": sized(BODY, *(b"X-%d: y" % number for number in range(3000))),
    "a field without a colon": sized(BODY, b"nonsense"),
    "a field without a name": sized(BODY, b": value"),
    "a space before the colon": sized(BODY, b"X-A : b"),
    "a folded field": sized(BODY, b"X-A: b\r\n  c"),
    "a null byte in a field": sized(BODY, b"X-A: b\x00c"),
    "control characters in a field": sized(BODY, b"X-A: \x01\x7f\xff"),
    "a name that is no token": sized(BODY, b"X (A): b", b"\xff: b"),
    "the length twice": sized(BODY, b"Content-Length: 10"),
    "a list of equal lengths": OK + b"Content-Length: 10, 10\r\n\r\n" + BODY,
    "contradicting lengths": OK + b"Content-Length: 3\r\nContent-Length: 10\r\n\r\n" + BODY,
    "a negative length": OK + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length that is no number": OK + b"Content-Length: ten\r\n\r\n" + BODY,
    "an empty length": OK + b"Content-Length:\r\n\r\n" + BODY,
    "no length": OK + b"\r\n" + BODY,
    "identity as a transfer coding": OK + b"Transfer-Encoding: identity\r\nContent-Length: 10\r\n\r\n" + BODY,
    "an interim response first": b"HTTP/1.1 100 Continue\r\n\r\n" + sized(BODY),
    "several interim responses": b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 3 + sized(BODY),
    "chunks": CHUNKED + b'5\r\n{"id"\r\n5\r\n:"7"}\r\n0\r\n\r\n',
    "chunks and a length": OK
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    + b"a\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "chunks with line feeds": CHUNKED.replace(b"\r", b"") + b"a\n" + BODY + b"\n0\n\n",
    "chunks with extensions": CHUNKED + b"a;name=value\r\n" + BODY + b"\r\n0;last\r\n\r\n",
    "chunks with spaces after the size": CHUNKED + b"a  \r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk sizes with leading zeros": CHUNKED + b"000A\r\n" + BODY + b"\r\n0000\r\n\r\n",
    "chunks with trailers": CHUNKED + b"a\r\n" + BODY + b"\r\n0\r\nX-Sum: 1\r\n\r\n",
    "the last chunk without its end": CHUNKED + b"a\r\n" + BODY + b"\r\n0\r\n",
    "chunked in capitals": CHUNKED.replace(b"chunked", b"gzip, Chunked") + b"a\r\n" + BODY + b"\r\n0\r\n\r\n",
}
