"""The systems of the gateways' menus have the state of the dialects that serve them."""

import dataclasses

import pytest

from service.providers import systems
from service.providers.registry import DIALECTS, FAMILIES
from service.providers.systems import SYSTEMS, System, all_systems


def test_every_family_is_in_the_table_once() -> None:
    listed = [each.family for each in all_systems() if each.operations is None and each.family is not None]
    assert len(listed) == len(set(listed))
    assert set(FAMILIES) <= set(listed)


def test_served_system_works_and_names_its_dialects() -> None:
    midjourney = next(each for each in SYSTEMS if each.family == "midjourney")
    assert midjourney.support() == "works"
    assert "midjourney/proxy" in [each.facts.key for each in midjourney.dialects()]


def test_family_that_no_file_serves_is_not_built() -> None:
    assert System(title="Nobody", family="no-such-family").support() == "not built"


def test_operation_that_no_dialect_has_is_not_built() -> None:
    assert System(title="Acme", family="runway", operations=frozenset({"knit"})).support() == "not built"


def test_system_without_a_family_is_out_of_scope() -> None:
    assert System(title="Realtime", family=None).support() == "out of scope"


def test_system_of_experimental_dialects_only_is_experimental(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = DIALECTS["midjourney/proxy"]
    doubtful = type(proxy)()
    doubtful.facts = dataclasses.replace(proxy.facts, experimental=True)  # type: ignore[misc]
    system = System(title="Midjourney", family="midjourney")
    monkeypatch.setattr(systems, "DIALECTS", {"midjourney/proxy": doubtful})
    assert system.support() == "experimental"
    monkeypatch.setattr(systems, "DIALECTS", {"midjourney/proxy": doubtful, "midjourney/other": proxy})
    assert system.support() == "works"
