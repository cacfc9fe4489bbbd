"""Measuring schedules."""
