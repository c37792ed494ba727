"""One question to a provider, from due to answered."""
