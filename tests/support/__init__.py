"""Parts that tests share: callers, hosts, stubs, factories."""
