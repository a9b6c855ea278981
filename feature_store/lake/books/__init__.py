"""The lake's own books: small tables, written in the same transaction as what they tell of."""
