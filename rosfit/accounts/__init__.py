"""People: users, passwords, tokens, page sessions, and what each role may do."""
