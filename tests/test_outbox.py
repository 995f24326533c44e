"""What a task tells its user: signed, repeated on schedule, given up in the end, and never sent to a private address."""
