"""The errors of new-api gateways (ElkAPI, CometAPI and others), which all their protocols share."""

from typing import Final

from service.sandbox.desk import Answer, Provider

ACCOUNT: Final = "gateway"
FAILURE: Final = "An unexpected error occurred."
MODERATED: Final = "The prompt was flagged by content moderation."

_REQUEST_ID: Final = " (request id: sandbox)"  # gateways end their messages so


def relay_error(status: int, message: str, code: str = "", kind: str = "new_api_error") -> Answer:
    """Return an error of new-api's middleware: authorisation, routing, quota, load."""
    error = {"message": message + _REQUEST_ID, "type": kind, "param": "", "code": code}
    return Answer(status, {"error": error})


def task_error(code: str, message: str, status: int = 400) -> Answer:
    """Return an error of new-api's task layer."""
    return Answer(status, {"code": code, "message": message, "data": None})


GATEWAY: Final = Provider(
    account=ACCOUNT,
    invalid=lambda why: task_error("invalid_request", why),
    unauthorized=relay_error(401, "Invalid Token"),
    unknown=task_error("task_not_exist", "task_not_exist"),
    unknown200=task_error("task_not_exist", "task_not_exist", 200),
    errors={
        "refuse": task_error("invalid_request", "the provider does not take this input"),
        "moderate": task_error("invalid_request", "the prompt violates the content policy"),
        "refuse200": Answer(200, {"code": 400, "msg": "参数错误", "data": None, "exec_time": 0.02}),
        "nocredit": relay_error(403, "用户额度不足, 剩余额度: $0.000000", "insufficient_user_quota"),
        "429": Answer(
            429,
            relay_error(429, "当前分组上游负载已饱和，请稍后再试").document,
            {"Retry-After": "1"},
        ),
        "503": relay_error(503, "当前分组 default 下对于该模型无可用渠道", "model_not_found"),
        # The real cause is hidden by new-api; whether the upstream has the job cannot be told from this.
        "500": task_error("do_request_failed", "请求上游地址失败", 500),
    },
)
