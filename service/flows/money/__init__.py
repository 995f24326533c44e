"""The journeys of money: quotes, budgets, settlements, refunds, usage."""
