"""Meaning of the free text of a failure. Gateways and providers report most failures without a code."""

import re
from collections.abc import Sequence

from service.domain.task import Failure
from service.providers.read import line

FAILURE_TEXTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # Errors of the gateway's code and network come first: the rows below would misread their words.
    (
        "provider_timeout",
        (
            "deadline exceeded",
            "client.timeout",
            "i/o timeout",
            "handshake timeout",
            "request canceled while waiting",
            "took too long",
        ),
    ),
    (
        "provider_error",
        (
            "invalid character",
            "unexpected end of json",
            "cannot unmarshal",
            "no such host",
            "connection refused",
            "connection reset",
            "connection & rejected",
            "connection & blocked",
            "upstream & rejected & proxy",
            "cloudflare",
            "firewall",
            "goaway",
            "x509",
            "tls:",
            "unsupported protocol scheme",
            "proxyconnect",
            "nil pointer",
            "stream error",
            "invalid & response",
            "invalid json",
            "invalid status",
            "invalid session",
            "bad gateway",
            "internal server error",
            "broken pipe",
            "cannot read propert",
        ),
    ),
    ("overloaded", ("queue full", "queue is full", "队列已满")),
    (
        "rate_limited",
        (
            "rate limit",
            "rate policy",
            "rate growth",
            "limit policy",
            "too many",
            "throttl",
            "too fast",
            "too quickly",
            "too frequent",
            "slow down",
            "frequency",
            "concurren",
            "per minute",
            "connection limit",
            "parallel task",
            "number exceeded",
            "task limit",
            "resource has been exhausted",
            "并发",
            "频率",
            "频繁",
            "限流",
            "限速",
        ),
    ),
    (
        "content_policy",
        (
            "content polic",
            "safety polic",
            "prompt polic",
            "usage polic",
            "usage guideline",
            "security policy",
            "violat",
            "moderat",
            "safety",
            "sensitive",
            "risk control",
            "responsible ai",
            "flagged",
            "nsfw",
            "banned",
            "prohibit",
            "inappropriate",
            "community standard",
            "community guideline",
            "terms of service",
            "terms of use",
            "artist name",
            "producer tag",
            "copyright",
            "intellectual property",
            "derivative work",
            "matches existing work",
            "celebrit",
            "likeness",
            "real person",
            "sexual",
            "nudity",
            "porn",
            "explicit",
            "harmful",
            "image denied",
            "image filter",
            "output filter",
            "safety filter",
            "content filter",
            "content checker",
            "data inspection",
            "filtered",
            "content & blocked",
            "content & rejected",
            "content & not permitted",
            "prompt & blocked",
            "prompt & rejected",
            "prompt & denied",
            "prompt & not allowed",
            "image & blocked",
            "image & rejected",
            "敏感",
            "违规",
            "违禁",
            "违反",
            "违法",
            "不合规",
            "审核",
            "风控",
            "色情",
            "低俗",
            "暴力",
            "版权",
            "侵权",
            "禁止",
            "涉嫌",
            "拦截",
        ),
    ),
    ("invalid_input", ("invalid & param", "invalid & form", "invalid & link", "参数错误")),
    (
        "insufficient_credit",
        (
            "quota",
            "balance",
            "credit",
            "billing",
            "payment",
            "subscription",
            "fast hours",
            "run out of",
            "arrears",
            "top up",
            "depleted",
            "余额",
            "额度",
            "欠费",
            "积分",
            "点数",
            "充值",
            "套餐",
            "快速时间",
            "用尽",
        ),
    ),
    (
        "invalid_input",
        (
            "invalid & param",
            "invalid & value",
            "invalid & request",
            "invalid & prompt",
            "invalid & form",
            "invalid & file",
            "invalid & format",
            "invalid & image",
            "invalid & input",
            "invalid & link",
            "invalid & url",
            "is invalid",
            "unrecognized",
            "not supported",
            "unsupported",
            "not compatible",
            "not available for",
            "too long",
            "too short",
            "too large",
            "too small",
            "size limit",
            "maximum context",
            "exceeds the limit",
            "must be",
            "must have",
            "should be",
            "is required",
            "required & field",
            "required & param",
            "is missing",
            "missing & required",
            "cannot be empty",
            "cannot be null",
            "empty",
            "fetch & image",
            "fetch & url",
            "fetching image",
            "failed to download",
            "unable to download",
            "download & file",
            "could not be read",
            "could not be decoded",
            "could not validate",
            "not in a recognized",
            "not one of",
            "clip & does not exist",
            "validation",
            "failed to parse the request",
            "incorrect & format",
            "aspect ratio",
            "参数",
            "格式",
            "不能为空",
            "缺少",
            "必填",
            "过长",
            "过大",
            "长度",
            "尺寸",
            "时长",
            "不支持",
            "不符合要求",
            "下载失败",
            "无法下载",
            "无法获取",
            "无法访问",
        ),
    ),
    ("cancelled", ("cancel & user", "cancel & client", "was cancel", "job cancel", "task cancel", "已取消", "取消")),
    ("provider_timeout", ("timeout", "time out", "timed out", "expired", "超时", "过期")),
    (
        "overloaded",
        (
            "capacity",
            "busy",
            "overload",
            "heavy load",
            "high demand",
            "unavailable",
            "maintenance",
            "no available",
            "饱和",
            "负载",
            "繁忙",
            "排队",
            "算力不足",
            "无可用",
            "没有可用",
        ),
    ),
    ("rate_limited", ("limit & reached", "maximum number of", "达上限")),
    ("content_policy", ("blocked",)),
)
"""The first row with a part of the text names the code. Case is ignored, and ``-`` and ``_`` count as spaces.

A part matches from the start of a word. ``a & b`` needs both. A text that no row matches is a ``provider_error``.
"""

RETRYABLE = frozenset({"provider_error", "provider_timeout", "rate_limited", "overloaded"})
"""The failure codes after which the same input may succeed."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATOR = re.compile(r"[\s_\-]+")


def _pattern(parts: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern for a row: each part from the start of a word, the parts of a pair in any order."""
    found = []
    for part in parts:
        words = [(r"\b" if word[0].isascii() else "") + re.escape(word) for word in part.split(" & ")]
        found.append(words[0] if len(words) == 1 else "^" + "".join(f"(?=.*{word})" for word in words))
    return re.compile("|".join(found), re.DOTALL)


_ROWS = tuple((code, _pattern(parts)) for code, parts in FAILURE_TEXTS)
_LONGEST = 2000
"""Characters of a text that are examined."""


def plain(text: str) -> str:
    """Return a text as the patterns read it: in lower case, and with single spaces between its words."""
    return _SEPARATOR.sub(" ", _CAMEL.sub(" ", text[:_LONGEST])).lower()


def code_of(text: str) -> str:
    """Return the failure code that a free text means."""
    read = plain(text)
    return next((code for code, pattern in _ROWS if pattern.search(read)), "provider_error")


def failure_from_text(text: str | None) -> Failure:
    """Return the failure that a free text reports; without a text it is ``unknown``."""
    message = line(text)
    if message is None:
        return Failure("unknown")
    code = code_of(message)
    return Failure(code, message, retryable=code in RETRYABLE)
