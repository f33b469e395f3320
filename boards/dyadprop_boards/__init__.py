"""Board targets, their builds and their reports."""
