"""The report of a run: one HTML file that needs no network."""

from lookalike.api.report.writing import Reported, report

__all__ = ["Reported", "report"]
