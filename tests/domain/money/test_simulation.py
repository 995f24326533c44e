"""Ten thousand tasks over three upstreams that charge, refund, forget to, charge twice, charge late and change their prices.

Where the upstream tells, the ledger's totals are those of the account, to the credit. Where only the balance tells, the claims are right.
"""

import dataclasses
import datetime as dt
import random
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

from service.domain.money.amounts import Amount
from service.domain.money.attribution import Bought, OpenCase, Snapshot, Window, judge, judge_again
from service.domain.money.quotes import Quote
from service.domain.money.settlement import Facts, Settlement, change_of, follows, settle

TASKS = 10_000
BURST = 6
"""Tasks between two quiet moments of an account."""
START = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
PRICES = (5, 12, 25, 40, 60, 75, 120, 160, 245, 320)


@dataclasses.dataclass
class Job:
    """A job as the simulated upstream keeps it."""

    number: int
    price: Decimal
    fails: bool
    returned: bool
    twice: bool = False
    """The upstream charges it twice."""

    @property
    def charged(self) -> Decimal:
        """What the account has lost in the end."""
        return Decimal(0) if self.fails and self.returned else self.price * (2 if self.twice else 1)


def jobs(chance: random.Random, *, count: int, tells: bool) -> Iterator[list[Job]]:
    """Yield bursts of jobs. The upstream's prices rise in the middle."""
    for start in range(0, count, BURST):
        factor = Decimal("1.2") if start > count // 2 else Decimal(1)
        yield [
            Job(
                number=start + offset,
                price=Decimal(chance.choice(PRICES)) * factor,
                fails=chance.random() < 0.06,
                returned=chance.random() < 0.6,
                twice=chance.random() < (0.0 if tells else 0.002),
            )
            for offset in range(min(BURST, count - start))
        ]


def quoted(job: Job) -> Quote:
    return Quote(upstream="u", bound="exact", low=job.price, expected=job.price, high=job.price, unit="credits")


class Ledger:
    """Books settlements by their changes, as a billing system does."""

    def __init__(self) -> None:
        self.current: dict[int, Settlement] = {}
        self.total = Decimal(0)

    def book(self, number: int, found: Settlement) -> None:
        """Book a settlement, or the correction that it makes."""
        known = self.current.get(number)
        following = found if known is None else follows(known, found)
        if following is not None:
            change, _ = change_of(known, following)
            self.total += change or 0
            self.current[number] = following


def test_ledger_agrees_with_the_account_where_the_provider_tells() -> None:
    """Late statements, repeated messages and changed prices included."""
    chance, ledger, lost = random.Random(17), Ledger(), Decimal(0)
    late: list[tuple[int, Facts]] = []
    for burst in jobs(chance, count=TASKS // 3, tells=True):
        for job in burst:
            lost += job.charged
            # The quote is that of the old price list: the provider's figure counts.
            quote = dataclasses.replace(quoted(job), high=Decimal(1), expected=Decimal(1))
            price = Amount(job.price, "credits")
            if job.fails:
                told = Facts(ending="failed", stated=price, refunded=job.returned, quote=quote)
                first = Facts(ending="unknown", quote=quote)
            else:
                told = Facts(ending="succeeded", stated=price, quote=quote)
                first = Facts(ending="failed", quote=quote)
            if chance.random() < 0.1:
                ledger.book(job.number, settle(first))
                late.append((job.number, told))
            else:
                for _ in range(chance.randint(1, 3)):  # callbacks are repeated, and a poll stands beside them
                    ledger.book(job.number, settle(told))
    for number, told in chance.sample(late, len(late)):
        ledger.book(number, settle(told))
    assert ledger.total == lost


def test_claims_are_right_where_only_balances_tell() -> None:
    chance, ledger = random.Random(17), Ledger()
    balance, kept, claimed = Decimal(10_000_000), set[int](), set[int]()
    open_cases: list[Job] = []
    pending: list[Decimal] = []
    before: Window | None = None
    for burst_number, burst in enumerate(jobs(chance, count=TASKS - TASKS // 3, tells=False)):
        start = Snapshot(START + dt.timedelta(minutes=5 * burst_number), balance)
        balance -= sum(pending)  # charged late: in the next window
        pending = []
        for job in burst:
            if chance.random() < 0.001:
                pending.append(job.charged)
            else:
                balance -= job.charged
            ending = "failed" if job.fails else "succeeded"
            ledger.book(job.number, settle(Facts(ending=ending, quote=quoted(job))))  # type: ignore[arg-type]
            if job.fails and not job.returned:
                kept.add(job.number)
        open_cases = [job for job in burst if job.fails]
        window = Window(
            start=start,
            end=Snapshot(START + dt.timedelta(minutes=5 * burst_number + 5), balance),
            bought=[Bought(UUID(int=job.number), job.price) for job in burst],
            open=[OpenCase(UUID(int=job.number), job.price) for job in open_cases],
        )
        verdicts = judge(window)
        again = verdicts.missing is not None and before is not None
        if again and before is not None:
            verdicts = judge_again(before, window)
        before = window
        for submission, word in verdicts.judged.items():
            known = ledger.current[submission.int]
            if again and known.basis == "balance":
                continue  # judged by a window of its own
            amount = Decimal(0) if word == "returned" else known.gross
            verdict = "refunded" if word == "returned" else "charged"
            ledger.book(submission.int, dataclasses.replace(known, verdict=verdict, basis="balance", amount=amount))  # type: ignore[arg-type]
    claimed = {
        number
        for number, settled in ledger.current.items()
        if not settled.delivered and settled.verdict == "charged" and settled.basis == "balance"
    }
    right = claimed & kept
    assert len(kept) > 120
    assert len(right) / len(claimed) >= 0.99
    assert len(right) / len(kept) >= 0.95
