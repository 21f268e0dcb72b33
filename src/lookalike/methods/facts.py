"""What is told of a method in the list of methods: its row of the table under which all of them fall."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """In words: what a view is to agree with (target), what it is pushed away from (negatives), which networks see
    images, what is kept from step to step beside them (memory), and what the method is for (when). unlabeled is said at
    the start of a run without labels, by a method that learns from them."""

    target: str
    negatives: str = "none"
    networks: str = "one"
    memory: str = "none"
    when: str
    unlabeled: str = ""
