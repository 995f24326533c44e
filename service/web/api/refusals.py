"""The refusals of a task as error responses."""

import contextlib
from collections.abc import Iterator

from service.domain.validation import Invalid
from service.flows.money.allowance import NoRoom
from service.flows.submission import accept
from service.flows.submission.adoption import JobTaken
from service.web.api.budgets import over_budget
from service.web.api.route import invalid
from service.web.problems import Problem


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn every refusal of a task within the block into an error response.

    :raises Problem: 402 when a budget has no room, 409 for a job that another client follows, 422 with every mistake
    """
    try:
        yield
    except Invalid as error:
        raise invalid(error.mistakes) from None
    except NoRoom as error:
        raise over_budget(error.over) from None
    except JobTaken as error:
        raise Problem(409, "job_taken", str(error)) from None
    except accept.KeyReused as error:
        raise Problem(422, "idempotency_key_reused", str(error)) from None
