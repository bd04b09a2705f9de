"""A person's own deck: the variables that tell its walkers apart, and what it may not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from metamd.config import Sample
from metamd.deck import deck_lines
from metamd.errors import InputError

#: LAMMPS variables of a deck: the number of its walker, from 0, and a seed for random numbers.
WALKER, SEED = "walker", "seed"
#: The largest seed of LAMMPS's generator is 900 000 000; decks may add a little to theirs.
_SEEDS = 899_900_000


def own_deck(arm: Sample, walker: int) -> str:
    """The deck of one walker: the person's, with the variables that it uses set on top.

    They are ``index`` variables: such lines of the deck itself, for running it by hand, are
    skipped by LAMMPS then.
    """
    assert arm.deck is not None
    text = arm.deck.read_text()
    values = {WALKER: walker, SEED: 1 + (arm.seed + 1000 * walker - 1) % _SEEDS}
    used = [name for name in values if _uses(arm, name)]
    return "".join(f"variable {name} index {values[name]}\n" for name in used) + text


def check_own_deck(
    arm: Sample, key: str, *, callback: bool, different_starts: int = 1, repeats: int = 1
) -> None:
    """Refuse a deck that would run the same trajectory twice, or that cannot be followed.

    Args:
        key: where the deck is named, for messages.
        callback: an ASE calculator moves the atoms.
        different_starts: structures that the arm's walkers start from.
        repeats: how often the arm is sampled: iterations, or seeds of a comparison.

    Raises:
        InputError: not readable; the same dynamics again; loops or hidden ``run`` lines under an
            ASE calculator.
    """
    if arm.deck is None:
        return
    try:
        arm.deck.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{key}: {arm.deck}: cannot be read ({error}).") from error
    where = f"{key}: {arm.deck}"
    seeded = _uses(arm, SEED)
    same = "iteration (or seed of a comparison)" if repeats > 1 and not seeded else None
    if arm.walkers > different_starts and not (seeded or _uses(arm, WALKER)):
        same = "walker"
    if same is not None:
        raise InputError(
            f"{where}: has no ${{seed}} for its random numbers, so that every {same} would run the "
            'same trajectory; write ${seed} where the deck has a seed ("velocity all create 300 '
            '${seed}").'
        )
    if callback:
        _check_followed(arm, where)


def _check_followed(arm: Sample, where: str) -> None:
    """The walker's program gives LAMMPS the deck line by line: it cannot jump back in it."""
    assert arm.deck is not None
    commands = [line.split() for line in deck_lines(arm.deck.read_text())]
    for words in commands:
        branch = words[0] == "if" and any(word.strip("\"'") == "jump" for word in words)
        if words[0] in ("label", "next", "jump") or branch:
            raise InputError(
                f"{where}: {words[0]!r}: a deck that an ASE calculator moves the atoms of cannot "
                "loop; write its `run` lines one below the other."
            )
    for path in _included(arm):
        if any(line.split()[0] == "run" for line in deck_lines(path.read_text())):
            raise InputError(
                f"{where}: includes {path.name}, which has a `run`; under an ASE calculator every "
                "`run` must stand in the deck itself."
            )
    if not any(words[0] == "run" for words in commands):
        raise InputError(f"{where}: has no `run`.")


def _included(arm: Sample) -> Iterator[Path]:
    """Files among the arm's that its deck includes, by the name that they have in its folder."""
    assert arm.deck is not None
    names = {
        words[1]
        for words in map(str.split, deck_lines(arm.deck.read_text()))
        if words[0] == "include" and len(words) > 1
    }
    yield from (path for path in arm.files if path.name in names)


def _uses(arm: Sample, name: str) -> bool:
    """Whether the deck reads this variable, and leaves it to whoever starts it to set it."""
    assert arm.deck is not None
    read = False
    for path in (arm.deck, *_included(arm)):
        for line in deck_lines(path.read_text()):
            command = line.partition("#")[0]
            words = command.split()
            if words[:2] == ["variable", name] and (words[2:3] != ["index"] or len(words) != 4):
                return False
            read = read or re.search(rf"\$\{{{name}\}}|\bv_{name}\b", command) is not None
    return read
