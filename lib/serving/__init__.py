"""Search behind a server, a page and a command line."""
