"""``python -m service.cli`` is the ``dovecote`` command, where scripts are not on the path."""

from service.cli import main

main(prog_name="dovecote")
