"""The verbs for Python, one file each: they join data, training and evaluation."""

from lookalike.api.catalog import SMOKE, MethodFacts, RecipeFacts, list_methods, list_recipes
from lookalike.api.copy_benchmark import CopySizes, build_copy_benchmark
from lookalike.api.demo import Story, demo
from lookalike.api.doctor import Checkup, doctor
from lookalike.api.embed import Embedded, embed
from lookalike.api.evaluate import Report, evaluate
from lookalike.api.export import Exported, export
from lookalike.api.pretrain import pretrain, resume
from lookalike.api.preview import Preview, dry_run
from lookalike.api.profile import Profile, profile
from lookalike.api.report import Reported, report
from lookalike.api.run import Run
from lookalike.api.selftest import Check, Examination, selftest
from lookalike.api.symptoms import Finding
from lookalike.api.views_sheet import views

__all__ = [
    "SMOKE",
    "Check",
    "Checkup",
    "CopySizes",
    "Embedded",
    "Examination",
    "Exported",
    "Finding",
    "MethodFacts",
    "Preview",
    "Profile",
    "RecipeFacts",
    "Report",
    "Reported",
    "Run",
    "Story",
    "build_copy_benchmark",
    "demo",
    "doctor",
    "dry_run",
    "embed",
    "evaluate",
    "export",
    "list_methods",
    "list_recipes",
    "pretrain",
    "profile",
    "report",
    "resume",
    "selftest",
    "views",
]
