"""Holds a dialect's exchange without a server."""


def held(exchange, *answers):
    """Send these answers to an exchange; return the calls that it made, and its outcome."""
    calls, waiting = [next(exchange)], list(answers)
    while True:
        if not waiting:
            raise AssertionError(f"the exchange goes on: {calls[-1].endpoint}")
        try:
            calls.append(exchange.send(waiting.pop(0)))
        except StopIteration as done:
            assert not waiting, "the exchange ended early"
            return calls, done.value
