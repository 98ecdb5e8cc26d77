"""Other people's programs that our results are compared with; used by tests only."""
