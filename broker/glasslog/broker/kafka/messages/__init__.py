"""Layouts of the messages that are not hot, one module for each subject."""
