"""What every stage gave, by content: stages found again as they were change no account of a run.

``metamd run`` and ``metamd compare`` pass through all finished stages.  Until one of them gives
something else than last time, the summary on disk knows more than the part passed so far.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from metamd.frames import content_hash
from metamd.identity import file_hash, fingerprint, without_places
from metamd.label import LabelResult
from metamd.sample import SampleResult
from metamd.summary import IterationState, status_entries
from metamd.train import Model
from metamd.workspace import STOPPED, SUMMARY, write_json

ACCOUNT = "stages.json"


class Account:
    """Prints of the stages of a run, in their order; ``changed`` once one is not the stored one.

    Args:
        root: work folder; places of files in it do not count.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S")
        self._stored: dict[str, str] = {}
        self._passed: dict[str, str] = {}
        path = root / ACCOUNT
        if path.exists() and (root / SUMMARY).exists():
            self._stored = json.loads(path.read_text())
        self.changed = not self._stored

    def passed(self, key: str, given: Any) -> bool:
        """Take note of a stage that has been done, or found done.

        Args:
            key: ``iteration-k/stage``, or more words behind it.
            given: all that the stage gave.

        Returns: whether it gave something new.
        """
        content = json.loads(json.dumps(given, default=_plain))
        self._passed[key] = fingerprint(without_places(content, self.root))
        new = self._stored.get(key) != self._passed[key]
        self.changed |= new
        return new

    def save(self) -> None:
        """Keep what was passed, once everything else on disk agrees with it."""
        write_json(self.root / ACCOUNT, self._passed)

    def keep_summary(
        self, make: Callable[[], dict[str, Any]], status: str, failure: str | None = None
    ) -> dict[str, Any]:
        """Write the summary; one that knows more than was passed through now keeps what it has.

        Args:
            make: gives the summary of what was passed.
            status: of the run.
            failure: why it ended, where it did not finish.
        """
        if self.changed:
            return self.write_summary(make(), status, failure)
        summary: dict[str, Any] = json.loads((self.root / SUMMARY).read_text())
        if summary["status"] == "finished" and failure in (None, STOPPED):
            return summary  # nothing of it has changed
        summary.pop("failure", None)
        return self.write_summary(summary, status, failure)

    def write_summary(
        self, summary: dict[str, Any], status: str, failure: str | None = None
    ) -> dict[str, Any]:
        """Write this summary, and how far the work is."""
        summary |= status_entries(status, self.started, failure)
        write_json(self.root / SUMMARY, summary)
        return summary


def stage_given(stage: str, state: IterationState) -> Any:
    """What a stage of a run's iteration gave, for ``Account.passed``."""
    if stage == "sample":
        return sampled(state.samples)
    if stage == "select":
        return {name: picked.as_dict() for name, picked in state.picked.items()}
    if stage == "label":
        return labelled(state.labels)
    if stage == "dataset":
        data = {name: [d.sha256, d.n_train, d.n_heldout] for name, d in state.datasets.items()}
        return [data, state.augmented]
    if stage == "train":
        return trained(state.models)
    return None if state.validation is None else fields(state.validation)


def sampled(samples: Iterable[SampleResult]) -> Any:
    """What sampling gave."""
    return [[s.arm.name, content_hash(s.frames), s.stopped, s.notes] for s in samples]


def labelled(labels: Mapping[str, LabelResult]) -> Any:
    """What labelling gave."""
    return {
        name: [content_hash(r.frames), {**fields(r), "frames": len(r.frames)}]
        for name, r in labels.items()
    }


def trained(models: Iterable[Model]) -> Any:
    """What training gave."""
    return [[m.train, m.seed, file_hash(m.path)] for m in models]


def fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, without going into them."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
