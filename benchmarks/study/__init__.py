"""The study of docs/study.md: runs, and what is made of their results."""
