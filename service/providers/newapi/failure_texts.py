"""Meaning of the free text of a failure. Gateways and providers report most failures without a code."""

import re
from collections.abc import Sequence

from service.domain.task import Failure
from service.providers.read import line


def _parts(listed: str) -> tuple[str, ...]:
    """Return the parts of a row, which are separated by ``|``."""
    return tuple(part.strip() for part in listed.split("|"))


FAILURE_TEXTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # Errors of the gateway's code and network come first: the rows below would misread their words.
    (
        "provider_timeout",
        _parts(
            """
            deadline exceeded | client.timeout | i/o timeout | handshake timeout |
            request canceled while waiting | took too long | time limit
            """
        ),
    ),
    (
        "provider_error",
        _parts(
            """
            invalid character | unexpected end of json | cannot unmarshal | no such host | connection refused |
            connection reset | connection & rejected | connection & blocked | upstream & rejected & proxy |
            cloudflare | firewall | goaway | x509 | tls: | unsupported protocol scheme | proxyconnect |
            nil pointer | stream error | invalid & response | invalid json | invalid status | invalid session |
            bad gateway | internal server error | broken pipe | cannot read propert
            """
        ),
    ),
    ("overloaded", _parts("queue full | queue is full | 队列已满")),
    # Too many of these is a mistake of the request. Too many of anything else is a rate.
    (
        "invalid_input",
        _parts(
            """
            too many images | too many reference | too many input | too many characters | too many files |
            too many videos
            """
        ),
    ),
    (
        "rate_limited",
        _parts(
            """
            rate limit | rate policy | rate growth | limit policy | too many | throttl | too fast | too quickly
            | too frequent | slow down | frequency | concurren | per minute | connection limit | parallel task |
            number exceeded | request limit | at the same time | qps | rpm | tpm | requests per |
            maximum parallel | task limit | resource has been exhausted | 并发 | 频率 | 频繁 | 限流 | 限速 | 请求过多 | 请求速度
            """
        ),
    ),
    (
        "content_policy",
        _parts(
            """
            content polic | safety polic | prompt polic | usage polic | usage guideline | security policy |
            violat | moderat | safety | sensitive | risk control | responsible ai | flagged | nsfw | banned |
            prohibit | inappropriate | community standard | community guideline | terms of service |
            terms of use | artist name | producer tag | copyright | intellectual property | derivative work |
            matches existing work | celebrit | likeness | real person | sexual | nudity | porn | explicit |
            harmful | image denied | image filter | output filter | safety filter | content filter |
            content checker | data inspection | filtered | content & blocked | content & rejected |
            content & not permitted | prompt & blocked | prompt & rejected | prompt & denied |
            prompt & not allowed | not safe | unsafe | risk & not pass | check & not pass |
            fail & to pass & check | fail & to pass & review | privacy | public figure | depict | gore | violen
            | hate speech | hateful | harass | self harm | racis | terroris | extremis | obscene | profan |
            offensive | adult content | disallowed | guardrail | blocklist | blacklist | forbidden word |
            forbidden content | our polic | our guideline | real people | minors | image & blocked |
            image & rejected | 敏感 | 违规 | 违禁 | 违反 | 违法 | 不合规 | 审核 | 风控 | 色情 | 低俗 | 暴力 | 版权 | 侵权 | 禁止 | 涉嫌 | 拦截 |
            安全审 | 安全检 | 安全策略 | 安全系统 | 不安全 | 审查 | 肖像 | 名人 | 真人 | 真实人物 | 平台规范 | 社区规范 | 内容规范 | 封禁 | 屏蔽 | 政治 | 血腥 |
            裸露 | 未成年 | 隐私 | 涉黄 | 涉政 | 拒绝生成
            """
        ),
    ),
    (
        "invalid_input",
        _parts(
            """
            invalid & param | invalid & form | invalid & link | 参数错误 | exceeds & size | exceeds & length |
            exceeds & duration | exceeds & maximum | maximum length | not exceed
            """
        ),
    ),
    (
        "insufficient_credit",
        _parts(
            """
            quota | balance | credit | billing | payment | subscription | fast hours | resource pack |
            pack & exhausted | not enough | no remaining | recharge | funds | trial | overdue | unpaid |
            upgrade your plan | spending limit | run out of | arrears | top up | depleted | 余额 | 额度 | 欠费 | 积分 |
            点数 | 充值 | 套餐 | 快速时间 | 资源包 | 不够 | 续费 | 用完 | 耗尽 | 费用不足 | 用尽
            """
        ),
    ),
    (
        "invalid_input",
        _parts(
            """
            invalid & param | invalid & value | invalid & request | invalid & prompt | invalid & form |
            invalid & file | invalid & format | invalid & image | invalid & input | invalid & link |
            invalid & url | is invalid | unrecognized | not supported | unsupported | not compatible |
            not available for | too long | too short | too large | too small | size limit | maximum context |
            exceeds the limit | must be | must have | should be | is required | required & field |
            required & param | is missing | missing & required | cannot be empty | cannot be null | empty |
            fetch & image | fetch & url | fetching image | failed to download | unable to download |
            download & file | could not be read | could not be decoded | could not validate |
            not in a recognized | not one of | clip & does not exist | validation | failed to parse the request
            | incorrect & format | aspect ratio | longer than | shorter than | larger than | smaller than |
            less than | greater than | at least | at most | out of range | not allowed for | not a valid |
            not & valid image | not & valid url | not & valid video | not valid | does not match | do not match
            | size & mismatch | dimension & mismatch | cannot identify | decod & image | decod & audio |
            decod & base64 | decod & file | decod & video | corrupt & image | corrupt & file | corrupt & video |
            corrupt & audio | no face | face & not found | face & not detect | not be detected | asset & invalid
            | resolution & low | resolution & high | bad request | malformed request | 参数 | 格式 | 不能为空 | 缺少 | 必填
            | 过长 | 过大 | 长度 | 尺寸 | 时长 | 不支持 | 不符合要求 | 下载失败 | 无法下载 | 无法获取 | 无法访问 | 分辨率 | 过低 | 过小 | 过短 | 超出 | 不得超过
            | 大小超过 | 数量超过 | 长度超过 | 时长超过 | 未检测到 | 检测不到 | 无法识别 & 图 | 无法识别 & 脸 | 无法识别 & 文件 | 解析 & 图片 | 解析 & 链接 |
            解析 & 视频 | 解析 & 音频 | 解析 & 文件 | 解码 & 图 | 解码 & 音 | 解码 & 视 | 比例 | 无效的图 | 无效的链接 | 无效的提示 | 无效的视频
            """
        ),
    ),
    (
        "cancelled",
        _parts(
            """
            cancel & user | abort & user | aborted by | cancel & client | was cancel | job cancel | task cancel
            | 已取消 | 取消
            """
        ),
    ),
    ("provider_timeout", _parts("timeout | time out | timed out | expired | 超时 | 过期")),
    (
        "overloaded",
        _parts(
            """
            capacity | busy | overload | heavy load | high demand | high load | high traffic | down for | no gpu
            | no worker | warming up | unavailable | maintenance | no available | 饱和 | 负载 | 繁忙 | 排队 | 算力不足 | 无可用
            | 没有可用 | 人数 | 拥挤 | 高峰 | 资源紧张 | 资源不足
            """
        ),
    ),
    ("rate_limited", _parts("limit & reached | limit & exceed | maximum number of | 达上限")),
    ("content_policy", _parts("blocked")),
)
"""The first row with a part of the text names the code. Case is ignored, and ``-`` and ``_`` count as spaces.

A part matches from the start of a word. ``a & b`` needs both. A text that no row matches is a ``provider_error``.
"""

RETRYABLE = frozenset({"provider_error", "provider_timeout", "rate_limited", "overloaded"})
"""The failure codes after which the same input may succeed."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATOR = re.compile(r"[\s_\-]+")
_GIVEN_BACK = re.compile(
    r"(积分|额度|费用|点数|余额|配额)[^,，。;；!！]{0,8}(退|返)[^,，。;；!！]*"
    r"|\b(credits?|points|quota|balance|cost|fee|charge)\b[^,.;!]{0,30}\b(refunded|returned|restored|not (been )?(charged|deducted))\b"
)
"""A remark that the price is given back: it says nothing about why the task failed."""


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
    return _GIVEN_BACK.sub("", _SEPARATOR.sub(" ", _CAMEL.sub(" ", text[:_LONGEST])).lower())


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
