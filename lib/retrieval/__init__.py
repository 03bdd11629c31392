"""Exact search and indexes."""
