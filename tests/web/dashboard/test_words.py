"""The words of the dashboard: labels that any font can show."""

import pytest

from service.domain.task import Action
from service.web.dashboard.words import action_label


@pytest.mark.parametrize(
    ("action", "label"),
    [
        pytest.param(Action("MJ::JOB::upsample::1::a1b2", "U1"), "U1", id="a label of letters"),
        pytest.param(Action("MJ::JOB::reroll::0::a1b2::SOLO", "🔄"), "🔄 reroll", id="an emoji"),
        pytest.param(Action("MJ::JOB::pan_left::1::a1b2::SOLO", "⬅️"), "⬅️ pan left", id="an arrow"),
        pytest.param(Action("17", "❤️"), "❤️", id="an id without a name"),
    ],
)
def test_follow_up_of_symbols_gets_the_name_of_its_id(action: Action, label: str) -> None:
    assert action_label(action) == label
