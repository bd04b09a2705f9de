"""The page: what was done, the verdict, the figures that matter, then everything else."""

from __future__ import annotations

import datetime
import html
import json
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from metamd import __version__
from metamd.report import figures_compare as compare
from metamd.report import figures_dynamics as dynamics
from metamd.report import figures_errors as errors
from metamd.report import figures_models as models
from metamd.report import figures_sampling as sampling
from metamd.report.draw import Figure
from metamd.report.figures_checks import checks
from metamd.report.material import Material
from metamd.report.structures import Structure, structures
from metamd.workspace import STOPPED

_DOI = re.compile(r"doi:(10\.\S+?)(?=[.,;]?(?:\s|$))")
#: More digits of a mean than this are for nobody, however small its spread is.
_MAX_DECIMALS = 6
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def write_report(workdir: str | Path) -> Path:
    """Make ``report.html`` in a work folder from its ``summary.json``, and say where it is.

    Works for a run that is still going, has failed or is finished, and says on the page which of
    these it is; figures whose data is missing are left out.

    Raises:
        WorkspaceError: the folder has no readable ``summary.json``.
        OSError: the page cannot be written.
    """
    material = Material.read(Path(workdir))
    page = render(material)
    path = material.folder / "report.html"
    partial = path.with_name(".report.html.part")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def render(material: Material) -> str:
    """The page's HTML."""
    made_checks: list[Figure] = _attempt(material, checks) or []
    key, rest = _first_screen(material, made_checks)
    figures = {
        "key": key,
        "errors": _present(
            [
                _attempt(material, errors.parity),
                _attempt(material, errors.energy_parity),
                _attempt(material, errors.error_distribution),
                _attempt(material, errors.error_by_energy),
                _attempt(material, models.learning_curves),
            ]
        ),
        "sampling": _present(
            [
                rest.get("components"),
                _attempt(material, sampling.energies),
                _attempt(material, sampling.variance_in_time),
                _attempt(material, sampling.components_in_time),
            ]
        ),
        "dynamics": [
            *_present([rest.get("stability")]),
            *(_attempt(material, dynamics.dynamics_traces) or []),
        ],
        "checks": [figure for figure in made_checks if figure not in key],
        "time": _present([_attempt(material, dynamics.time_by_stage)]),
    }
    shapes: list[Structure] = _attempt(material, structures) or []
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["number"] = number
    environment.filters["spread"] = with_spread
    environment.filters["linked"] = linked
    environment.filters["formula"] = formula
    template = environment.from_string(_asset("template.html.j2"))
    return template.render(
        s=material.summary,
        system=material.table("system"),
        status=_status(material),
        title=_title(material),
        story=_attempt(material, story) or "",
        figures=figures,
        structures=shapes,
        structure_data=_script_json([shape.as_dict() for shape in shapes]),
        arms=material.rows("arms"),
        labels=material.table("labels"),
        datasets=material.rows("datasets"),
        cross=material.rows("cross_errors"),
        trainings=material.rows("models"),
        runs=material.rows("stability"),
        checks=material.rows("checks"),
        failed_checks=material.rows("failed_checks"),
        comparison=material.table("compare"),
        headline=headline(material),
        verdict=material.table("verdict"),
        reasons=reasons(material),
        citations=material.rows("citations"),
        versions=_flat(material.table("versions")),
        seeds=_flat(material.table("seeds")),
        stored_config=material.stored_config,
        notes=material.notes,
        criterion=models.criterion(material),
        style=Markup(_asset("style.css")),
        script=Markup(_asset("view.js")) if shapes else "",
        viewer=Markup(_asset("assets/3Dmol-min.js")) if shapes else "",
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
    )


def _first_screen(
    material: Material, made_checks: Sequence[Figure]
) -> tuple[list[Figure], dict[str, Figure]]:
    """The three figures that matter, and by their keys the candidates that did not come in.

    How good, where it fails, what was seen: of a liquid the last is a radial distribution, since
    the principal components of its distance matrix say little.
    """
    wanted = [models.cross_heatmap, dynamics.stability, sampling.components_map]
    if material.summary.get("kind") == "compare":
        wanted = [compare.generality, models.cross_heatmap, compare.learning_by_size, *wanted[1:]]
    candidates = _present([_attempt(material, make) for make in wanted])
    liquid = [figure for figure in made_checks if figure.key.startswith("check-rdf")]
    if liquid and material.summary.get("kind") != "compare":
        at = len([figure for figure in candidates[:2] if figure.key != "components"])
        candidates.insert(at, liquid[0])
    return candidates[:3], {figure.key: figure for figure in candidates[3:]}


def headline(material: Material) -> str:
    """The outcome in a word or two."""
    verdict = material.table("verdict")
    if not verdict:
        return "No verdict yet"
    given = verdict.get("headline")
    return str(given) if given else "Usable" if verdict.get("usable") else "Not usable"


def story(material: Material) -> str:
    """What was done, in a few sentences made from the summary."""
    system = material.table("system")
    parts = []
    arms = material.rows("arms")
    kind = material.summary.get("kind")
    if kind == "validate":
        names = [f"{a.get('name')} ({_count(a.get('n_frames') or 0, 'frame')})" for a in arms]
        sets = f"tested on {_and(names)}" if names else "tested on no frames"
        parts.append(f"{_count(len(material.rows('models')), 'DeePMD model')} {sets}.")
    elif arms:
        listed = []
        for arm in arms:
            method = {"md": "plain MD", "metamd": "MetaMD"}.get(
                str(arm.get("method")), str(arm.get("method"))
            )
            text = f"{arm.get('name')} ({method}"
            if arm.get("temperature_k") is not None:
                text += f" at {arm['temperature_k']:g} K"
            if arm.get("n_frames") is not None:
                text += f", {_count(arm['n_frames'], 'frame')}"
            text += ", only for testing)" if arm.get("role") == "test" else ")"
            listed.append(text)
        reference = _reference(material)
        parts.append(
            f"Sampled{' with ' + reference if reference else ''}"
            f"{', periodic' if system.get('periodic') else ''}: {_and(listed)}."
        )
    else:
        parts.append("Nothing has been sampled yet.")
    trainings = material.rows("models")
    comparison = material.table("compare")
    if comparison.get("arms"):
        names = [str(arm.get("name")) for arm in comparison["arms"]]
        parts.append(
            f"Compared: {_and(names)}, at {comparison.get('budget_labels')} labelled frames an "
            f"arm, all from the sampling on repeated with {len(comparison.get('seeds') or [])} "
            f"seeds."
        )
    if trainings and kind != "validate":
        names = list(dict.fromkeys(str(m.get("train")) for m in trainings))
        which = "" if comparison else f" on {_and([_frames_of(name) for name in names])}"
        parts.append(
            f"{_count(len(trainings), 'DeePMD model')} trained{which}, each tested on held-out "
            "frames of every sampler."
        )
    runs = material.rows("stability")
    if runs:
        kelvins = sorted({f"{float(r.get('temperature_k') or 0):g} K" for r in runs}, key=_leading)
        parts.append(f"{_count(len(runs), 'dynamics run')} with the models at {_and(kelvins)}.")
    return " ".join(parts)


def reasons(material: Material) -> list[str]:
    """The verdict's lines, the first without the outcome that the heading gives."""
    lines = str(material.table("verdict").get("text") or "").splitlines()
    if not lines:
        return ["No model has been tested on held-out frames."]
    first = lines[0].removeprefix(f"{headline(material)}. ")
    first = re.sub(r"^(Usable|Not usable|No verdict): ", "", first)
    return [first[:1].upper() + first[1:], *lines[1:]]


def number(value: Any, digits: int = 3) -> str:
    """A number to so many significant digits, without exponent where it reads well; – for none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "not a number"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        decimals = max(0, digits - 1 - int(f"{value:e}".split("e")[1]))
        return f"{value:.{decimals}f}"
    return f"{value:.{digits - 1}e}"


def with_spread(value: Any, digits: int = 3) -> str:
    """``mean ± spread`` of a summary quantity, the spread to the decimals of the mean.

    Where that would make it 0, both have the decimals of the spread's first digit.
    """
    if not isinstance(value, dict) or value.get("mean") is None:
        return "–"
    mean, spread = float(value["mean"]), value.get("spread")
    text = number(mean, digits)
    if spread is None or "e" in text or "n" in text:
        return text if spread is None else f"{text} ± {number(float(spread), 2)}"
    decimals, spread = len(text.partition(".")[2]), float(spread)
    if spread > 0 and float(f"{spread:.{decimals}f}") == 0:
        decimals = -math.floor(math.log10(spread))
    if decimals > _MAX_DECIMALS:
        return f"{text} ± {number(spread, 1)}"
    return f"{mean:.{decimals}f} ± {spread:.{decimals}f}"


def formula(text: Any) -> Markup:
    """A chemical formula with its numbers as subscripts."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", html.escape(str(text))))


def linked(reference: str) -> Markup:
    """A reference with its DOI or arXiv number as a link."""
    text = html.escape(str(reference))
    text = _DOI.sub(r'<a href="https://doi.org/\1">doi:\1</a>', text)
    return Markup(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', text))


def _attempt(material: Material, make: Callable[[Material], Any]) -> Any:
    """A part of the page, or None and a note: one bad file must not cost the whole report."""
    try:
        return make(material)
    except Exception as error:
        name = make.__name__.replace("_", " ")
        material.note(f"The part “{name}” could not be made ({type(error).__name__}: {error}).")
        return None


def _present(figures: Sequence[Figure | None]) -> list[Figure]:
    return [figure for figure in figures if figure is not None]


def _status(material: Material) -> dict[str, str]:
    """Which state the run is in, and what the page says about it."""
    state = str(material.summary.get("status") or "unknown")
    failure = str(material.summary.get("failure") or "")
    why = f": {failure.rstrip('.')}" if failure else ""
    if state == "failed" and failure == STOPPED:
        state = "stopped"
    done = [stage for stage in ("sample", "select", "label", "dataset", "train", "validate")]
    finished = material.table("seconds")
    missing = [stage for stage in done if stage not in finished]
    text = {
        "finished": "",
        "running": "This run is still going. The page shows what there was when it was made; "
        "make it again with metamd report.",
        "stopped": "This run was stopped; the same command goes on. The page shows what it had "
        "done by then.",
        "failed": f"This run has failed{why}. The page shows what it had done by then.",
    }.get(state, "It is not known whether this run has finished.")
    if text and missing:
        text += f" Not done yet: {', '.join(missing)}."
    return {"state": state, "text": text}


def _title(material: Material) -> str:
    formula = material.table("system").get("formula")
    return f"{formula or material.folder.resolve().name} · metamd report"


def _reference(material: Material) -> str:
    reference = material.table("reference")
    if reference.get("kind") == "lammps":
        return "a LAMMPS force field"
    arguments = reference.get("arguments")
    method = arguments.get("method") if isinstance(arguments, dict) else None
    return str(method or reference.get("calculator") or "")


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            out += _flat(value, f"{prefix}{key}.")
        else:
            out.append(
                (
                    prefix + key,
                    ", ".join(map(str, value)) if isinstance(value, list) else str(value),
                )
            )
    return out


def _script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(value).replace("<", "\\u003c").replace("&", "\\u0026"))


@lru_cache
def _asset(name: str) -> str:
    return resources.files("metamd.report").joinpath(name).read_text(encoding="utf-8")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _frames_of(train: str) -> str:
    return "the frames of all arms together" if train == "all" else train


def _leading(text: str) -> float:
    return float(text.split()[0])
