"""Claim 2 where it was made: many teachers, on labels of known noise."""
