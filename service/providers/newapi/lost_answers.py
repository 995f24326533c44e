"""Texts of a gateway that got no usable answer of its provider. The provider may have taken the job."""

import re

from service.providers.newapi.failure_texts import code_of, plain

_LONGEST = 2000
_URL = re.compile(r"https?://\S+")
_LOST = re.compile(
    r"""
    \btimed\ out | \btime\ ?out | deadline\ exceeded | \be\ ?timedout
    | \bconnection\ (was\ )?(reset|refused|closed|aborted|terminated|lost|error) | \bclosed\ (the\ )?connection
    | \beconn(reset|refused|aborted) | \bepipe\b | broken\ pipe | socket\ hang\ up | \bunexpected\ eof | \beof$ | \beof\b.{0,3}$
    | \bcontext\ cancell?ed | \bgoaway\b | \bstream\ error | \binternal\ error\ code\ stream
    | \bdial\ (tcp|udp) | \berror\ while\ dialing | \bno\ such\ host | \bproxyconnect | \bdisconnect/reset | \bconnect\ error
    | \bunexpected\ end\ of\ json | \binvalid\ character\ '<' | \bunexpected\ token\ '?<
    | \bbad\ gateway | \binternal\ (server\ |service\ |rpc\ |system\ )?error | \bserver\ (had\ an\ )?error | \binner\ error
    | \bupstream\ (request|connection|service)\ failed | \bno\ response\ from\ (the\ )?(upstream|server|provider)
    | \bempty\ (response|reply)
    | \b(status|code|http|returned|error)\b[\s:=(]{0,3}(code\b)?[\s:=(]{0,3}(408|425|499|500|502|504|52[024])\b
    | 超时 | 网关 | 内部错误 | 服务器错误 | 网络(错误|异常|故障|中断) | 连接(失败|重置|中断|断开|被拒) | 上游.{0,6}(失败|错误|异常|无响应)
    | 请求上游
    """,
    re.VERBOSE,
)
_ABOUT_MEDIA = re.compile(
    r"\bdownload|\b(fetch|load|retriev)\w*\b.{0,40}\b(image|picture|video|audio|media|file|url|link|frame)"
    r"|\b(image|picture|video|audio|media|file|url|link|frame)s?\b.{0,40}\b(fetch|load|retriev|unreachable)"
    r"|(下载|获取|读取|访问|加载).{0,10}(图|视频|音频|文件|链接|素材)|(图|视频|音频|文件|链接|素材).{0,10}(下载|获取|读取|访问|加载)"
)
"""The connection that failed is the one to the client's own media: nothing was created."""
_OF_THE_PROVIDER = frozenset({"provider_error", "provider_timeout", "overloaded"})


def is_lost(text: str | None) -> bool:
    """Return whether a text says that a gateway lost its provider's answer: by a time-out, a broken connection or a 5xx."""
    if not text:
        return False
    found = plain(_URL.sub("", text[:_LONGEST]))
    if _LOST.search(found) is None or _ABOUT_MEDIA.search(found) is not None:
        return False
    return code_of(text) in _OF_THE_PROVIDER
