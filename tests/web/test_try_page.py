"""The API page that sends requests: its files, its policy, and its addresses behind a proxy."""

import hashlib
import re

import httpx
import pytest

from service.web.try_page import FILES

DIGESTS = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
"""SHA-256 of the files in the package swagger-ui-dist 5.35.0."""


@pytest.mark.parametrize("name", DIGESTS)
def test_vendored_file_is_that_of_the_published_package(name: str) -> None:
    assert hashlib.sha256((FILES / name).read_bytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("path", ["/docs/try", "/docs/try/", "/docs", "/docs/"])
async def test_addresses_of_the_page_keep_the_prefix_of_a_proxy(api: httpx.AsyncClient, path: str) -> None:
    page = await api.get(path)
    assert page.status_code == 200
    addresses = re.findall(r"""(?:href|src|data-openapi)=["']([^"'#]+)""", page.text)
    assert "openapi.json" in {each.rpartition("/")[2] for each in addresses}
    for address in addresses:
        seen = httpx.URL(f"https://proxy.example/prefix{path}").join(address)
        assert (seen.host, seen.raw_path[:8]) == ("proxy.example", b"/prefix/"), address
        asked = seen.raw_path.decode().removeprefix("/prefix")
        assert (await api.get(asked)).status_code == 200, address


async def test_policy_of_the_page_allows_this_server_alone(api: httpx.AsyncClient) -> None:
    policy = (await api.get("/docs/try")).headers["content-security-policy"]
    allowed = {name: sources for name, _, sources in (part.strip().partition(" ") for part in policy.split(";"))}
    assert allowed == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_page_has_no_inline_script_or_style(api: httpx.AsyncClient) -> None:
    page = (await api.get("/docs/try")).text
    assert re.findall(r"<script[^>]*>([^<]+)", page) == []
    assert not re.search(r"<style|\bstyle=|\bon\w+=", page)


async def test_file_is_kept_by_browsers_as_long_as_its_content_stays(api: httpx.AsyncClient) -> None:
    [address] = re.findall(r'src="\.\./(docs/static/start\.js\?v=\w+)"', (await api.get("/docs/try")).text)
    file = await api.get(f"/{address}")
    assert (file.headers["content-type"], file.headers["cache-control"]) == (
        "text/javascript; charset=utf-8",
        "public, max-age=31536000, immutable",
    )
    outdated = await api.get("/docs/static/start.js?v=0")
    assert outdated.headers["cache-control"] == "no-cache"
    again = await api.get("/docs/static/start.js", headers={"If-None-Match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["absent.js", "..%2f..%2fdocs.py", "%2e%2e", "try_page.py"])
async def test_no_other_file_is_served(api: httpx.AsyncClient, name: str) -> None:
    assert (await api.get(f"/docs/static/{name}")).status_code == 404
