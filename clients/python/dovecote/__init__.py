"""The Python client of Dovecote: submit tasks, wait for them, follow events, verify webhooks.

::

    from dovecote import Client

    with Client() as dovecote:
        task = dovecote.submit("runway", "text_to_video", input={"prompt": "a dove comes home", "duration": 5})
        print(dovecote.wait(task).urls)
"""

from dovecote.async_client import AsyncClient
from dovecote.callbacks import Callback
from dovecote.catalogue import Circuit, Credit, Family, Limits, ModelList, Operation, OperationDialect, Upstream
from dovecote.client import Client
from dovecote.erasures import Erasure
from dovecote.errors import (
    ConfigurationError,
    DovecoteError,
    FieldError,
    InvalidWebhook,
    Problem,
    UnexpectedResponse,
    Unreachable,
    WaitTimeout,
)
from dovecote.fields import (
    AdoptFields,
    BudgetFields,
    CallbackFilters,
    EndpointChanges,
    EndpointFields,
    MessageFilters,
    ReplayFilters,
    SubmitFields,
    TaskFilters,
)
from dovecote.messages import Delivery, Endpoint, Message, WebhookSecret
from dovecote.money import BillingDifference, BudgetRow, Claim, Quote, QuoteList, Settlement
from dovecote.tasks import Action, Event, Failure, Result, ResultLink, Task, TaskEvent, TaskWarning
from dovecote.uploads import Upload
from dovecote.values import Page
from dovecote.version import __version__
from dovecote.webhooks import Webhook, verify_webhook

__all__ = [
    "Action",
    "AdoptFields",
    "AsyncClient",
    "BillingDifference",
    "BudgetFields",
    "BudgetRow",
    "Callback",
    "CallbackFilters",
    "Circuit",
    "Claim",
    "Client",
    "ConfigurationError",
    "Credit",
    "Delivery",
    "DovecoteError",
    "Endpoint",
    "EndpointChanges",
    "EndpointFields",
    "Erasure",
    "Event",
    "Failure",
    "Family",
    "FieldError",
    "InvalidWebhook",
    "Limits",
    "Message",
    "MessageFilters",
    "ModelList",
    "Operation",
    "OperationDialect",
    "Page",
    "Problem",
    "Quote",
    "QuoteList",
    "ReplayFilters",
    "Result",
    "ResultLink",
    "Settlement",
    "SubmitFields",
    "Task",
    "TaskEvent",
    "TaskFilters",
    "TaskWarning",
    "UnexpectedResponse",
    "Unreachable",
    "Upload",
    "Upstream",
    "WaitTimeout",
    "Webhook",
    "WebhookSecret",
    "__version__",
    "verify_webhook",
]
