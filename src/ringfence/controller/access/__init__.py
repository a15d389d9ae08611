"""Who may do what: tokens, sessions, sign-in, roles over scopes, and how often."""
