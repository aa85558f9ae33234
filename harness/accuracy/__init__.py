"""Answers to questions, and their scores, by lmms-eval."""
