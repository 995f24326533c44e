"""Amounts, prices, quotes, budgets and settlements: the rules of money. Pure."""
