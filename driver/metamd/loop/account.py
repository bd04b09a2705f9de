"""What every stage gave, by content: stages found again as they were change no account of a run.

``metamd run`` passes through all finished stages.  Until one of them gives something else than
last time, the summary on disk knows more than the part passed so far.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from metamd.frames import content_hash
from metamd.identity import file_hash, fingerprint, without_places
from metamd.summary import IterationState
from metamd.workspace import write_json

ACCOUNT = "stages.json"


class Account:
    """Prints of the stages of a run, in their order; ``changed`` once one is not the stored one."""

    def __init__(self, root: Path, summary: str) -> None:
        self.root = root
        self._stored: dict[str, str] = {}
        self._passed: dict[str, str] = {}
        path = root / ACCOUNT
        if path.exists() and (root / summary).exists():
            self._stored = json.loads(path.read_text())
        self.changed = not self._stored

    def passed(self, key: str, state: IterationState) -> None:
        """Take note of a stage that has been done, or found done."""
        self._passed[key] = stage_print(key, state, self.root)
        self.changed |= self._stored.get(key) != self._passed[key]

    def save(self) -> None:
        """Keep what was passed, once everything else on disk agrees with it."""
        write_json(self.root / ACCOUNT, self._passed)


def stage_print(key: str, state: IterationState, root: Path) -> str:
    """Names what a stage gave.

    Args:
        key: ``iteration-k/stage``; ``validate`` with or without more words behind it.
        state: of its iteration.
        root: work folder; places of files in it do not count.
    """
    stage = key.partition("/")[2]
    given: Any
    if stage == "sample":
        given = [[s.arm.name, content_hash(s.frames), s.stopped, s.notes] for s in state.samples]
    elif stage == "select":
        given = {name: picked.as_dict() for name, picked in state.picked.items()}
    elif stage == "label":
        given = {
            name: [content_hash(r.frames), {**_fields(r), "frames": len(r.frames)}]
            for name, r in state.labels.items()
        }
    elif stage == "dataset":
        data = {name: [d.sha256, d.n_train, d.n_heldout] for name, d in state.datasets.items()}
        given = [data, state.augmented]
    elif stage == "train":
        given = [[m.train, m.seed, file_hash(m.path)] for m in state.models]
    else:
        given = None if state.validation is None else _fields(state.validation)
    return fingerprint(without_places(json.loads(json.dumps(given, default=_plain)), root))


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
