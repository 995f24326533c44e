"""``dovecote adopt``: follow a job that was bought elsewhere."""

import click

from service.cli.api_client import open_client
from service.cli.arguments import read_input, read_options
from service.cli.options import server_options
from service.cli.printing import print_json, say
from service.cli.submit import input_schema, read_deadline
from service.cli.watching import wait_for_end


@click.command("adopt", short_help="Follow a job that was bought elsewhere.")
@click.argument("family")
@click.argument("operation")
@click.argument("values", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--upstream", required=True, metavar="NAME", help="The upstream that has the job.")
@click.option("--external-id", required=True, metavar="ID", help="The provider's id of the job.")
@click.option("--dialect", metavar="NAME", help="The protocol in which it was bought, such as runway/aggregator.")
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label to find the task by; may be repeated."
)
@click.option("--callback-url", metavar="URL", help="The URL that gets a signed webhook when the task ends.")
@click.option("--deadline", metavar="SPAN|TIME", help="When to stop waiting: 90, 15m, 2h, 1d, or a time.")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the results.")
@server_options
def command(
    *,
    family: str,
    operation: str,
    values: tuple[str, ...],
    upstream: str,
    external_id: str,
    dialect: str | None,
    labels: tuple[str, ...],
    callback_url: str | None,
    deadline: str | None,
    url: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Follow a job that was bought elsewhere, to its end. It is never submitted.

    For example: runway text_to_video --upstream elkapi --external-id 0f3c91

    The input may be left out, unless the provider needs a part of it to find the job, such as the model.
    A job that you follow already returns the same task. Prints the id of the task.
    """
    with open_client(url) as client:
        task = client.adopt(
            family,
            operation,
            upstream=upstream,
            external_id=external_id,
            dialect=dialect,
            input=read_input(values, input_schema(client.families(), family, operation)),
            labels=read_options(labels) or None,
            callback_url=callback_url,
            deadline=read_deadline(deadline),
        )
        if task.replayed:
            say("The job has a task already: nothing was changed.")
        if wait:
            if not as_json:
                say(task.id)
            wait_for_end(client, task, as_json=as_json)
        elif as_json:
            print_json(task.document)
        else:
            click.echo(task.id)
            say(task.explanation)
