"""SQL for money: reservations, the entries of the ledger, and the counters of budgets."""
