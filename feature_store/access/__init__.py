"""Who may do what: API keys with their grants, kept in the lake, published in Redis for those who check them."""
