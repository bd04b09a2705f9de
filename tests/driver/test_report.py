"""The report: its numbers, that it needs no network, partial runs, broken files, and a browser."""

from __future__ import annotations

import base64
import copy
import csv
import io
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import report_case
from ase.build import bulk, molecule
from rich.console import Console

from metamd import cli
from metamd.errors import WorkspaceError
from metamd.frames import from_atoms, load_npz, save_npz
from metamd.report import print_summary, write_report
from metamd.report.figures_sampling import energies
from metamd.report.html import number, with_spread
from metamd.report.material import Material, read_lcurve, thinned
from metamd.report.structures import structures
from metamd.workspace import STOPPED

FIGURES = [
    "cross-errors",
    "stability",
    "components",
    "parity",
    "energy-parity",
    "error-distribution",
    "error-by-energy",
    "learning-curves",
    "energies",
    "variance",
    "components-time",
    "dynamics-energy",
    "dynamics-temperature",
    "seconds",
]
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "image", "circle"}


class Page(HTMLParser):
    """What a test asks of a page: elements with attributes, text, balanced tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if a.get("id")]

    @property
    def tables(self) -> dict[str, list[dict[str, str]]]:
        """The CSV files behind the links, by file name."""
        out = {}
        for tag, a in self.elements:
            if tag == "a" and a.get("download"):
                out[str(a["download"])] = csv_rows(str(a["href"]))
        return out


def csv_rows(uri: str) -> list[dict[str, str]]:
    """Rows of a figure's data as the page holds them."""
    head, _, code = uri.partition("base64,")
    assert head == "data:text/csv;charset=utf-8;"
    return list(csv.DictReader(io.StringIO(base64.b64decode(code).decode())))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("finished")
    summary = report_case.build(folder)
    path = write_report(folder)
    assert path == folder / "report.html"
    return folder, summary


@pytest.fixture(scope="module")
def page(finished: tuple[Path, dict[str, Any]]) -> Page:
    return Page(finished[0] / "report.html")


def test_page_is_complete_and_well_formed(page: Page) -> None:
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for figure in FIGURES:
        assert figure in page.ids
    assert "Not on this page" not in page.text
    svgs = [a for tag, a in page.elements if tag == "svg"]
    assert len(svgs) >= 12
    assert all(a.get("viewbox") and a.get("aria-label") for a in svgs)


def test_page_opens_with_what_was_done_and_the_verdict(
    page: Page, finished: tuple[Path, dict[str, Any]]
) -> None:
    first = page.text[: page.text.index("data (CSV)")]
    assert "Sampled with GFN2-xTB" in first
    assert "Usable The model trained on metamd. Its force RMSE is at most" in first
    for line in finished[1]["verdict"]["text"].splitlines()[1:]:
        assert line in first


def test_page_loads_nothing(page: Page, finished: tuple[Path, dict[str, Any]]) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "data", "poster", "action", "xlink:href", "href"):
            value = attributes.get(name)
            if value is None or (tag == "a" and name == "href"):
                continue
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
    text = (finished[0] / "report.html").read_text()
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert len(text) < 10_000_000
    assert str(finished[0]) not in text


def test_text_of_the_run_cannot_become_markup(page: Page) -> None:
    assert "SCF did not <converge>" in page.text
    assert "# <b>not bold</b>" in page.text
    assert "converge" not in {tag for tag, _ in page.elements}


def test_references_are_linked(page: Page) -> None:
    links = [a.get("href") for tag, a in page.elements if tag == "a"]
    assert "https://doi.org/10.1063/1.5020067" in links
    assert "https://doi.org/10.1021/acs.jctc.8b01176" in links
    assert "https://arxiv.org/abs/1805.09003" in links


def test_csv_of_cross_errors_is_the_summary(
    page: Page, finished: tuple[Path, dict[str, Any]]
) -> None:
    rows = page.tables["cross-errors.csv"]
    given = finished[1]["cross_errors"]
    assert len(rows) == len(given) == 6
    for row, entry in zip(rows, given, strict=True):
        assert (row["train"], row["test"]) == (entry["train"], entry["test"])
        mean = entry["force_rmse_ev_per_ang"]
        # CSV files have ten digits.
        assert float(row["force_rmse_ev_per_ang_mean"]) == pytest.approx(mean["mean"], rel=1e-9)
        assert float(row["force_rmse_ev_per_ang_spread"]) == pytest.approx(mean["spread"], rel=1e-9)
        assert f"{mean['mean']:.3f}" in page.text  # the number in the figure


def test_csv_of_figures_are_what_was_computed_from_the_frames(
    page: Page, finished: tuple[Path, dict[str, Any]]
) -> None:
    folder, summary = finished
    arms = {a["name"]: load_npz(folder / a["frames"]) for a in summary["arms"]}
    tables = page.tables
    zero = min(f.energy.min() for f in arms.values())

    rows = [r for r in tables["energies.csv"] if r["arm"] == "md"]
    edges = np.array([float(r["bin_low_ev"]) for r in rows] + [float(rows[-1]["bin_high_ev"])])
    counts = np.histogram(arms["md"].energy - zero, edges)[0]
    density = np.array([float(r["density_per_ev"]) for r in rows])
    np.testing.assert_allclose(density * np.diff(edges) * len(arms["md"]), counts, atol=1e-9)
    assert counts.sum() > 0

    for walker in (0, 1):
        part = arms["metamd"].positions[arms["metamd"].info["walker"] == walker]
        rows = [
            r for r in tables["variance.csv"] if r["arm"] == "metamd" and r["walker"] == str(walker)
        ]
        i, j = np.triu_indices(9, 1)
        d = 1 / np.linalg.norm(part[:, i] - part[:, j], axis=2)
        last = d.var(axis=0).mean()
        assert float(rows[-1]["variance_1_per_ang2"]) == pytest.approx(last, rel=1e-9)
        # 20 steps of 0.5 fs between frames
        assert float(rows[1]["time_ps"]) - float(rows[0]["time_ps"]) == pytest.approx(0.01)

    rows = [r for r in tables["error-by-energy.csv"] if r["train"] == "md"]
    assert len(rows) == sum(len(f) for f in arms.values())
    squares = np.array([float(r["force_rmse_ev_per_ang"]) ** 2 for r in rows[: len(arms["md"])]])
    own = next(e for e in summary["cross_errors"] if (e["train"], e["test"]) == ("md", "md"))
    assert np.sqrt(squares.mean()) == pytest.approx(own["force_rmse_ev_per_ang"]["values"][0])

    assert {r["train"] for r in tables["parity.csv"]} == {"md", "metamd"}
    assert float(tables["learning-curves.csv"][0]["force_rmse_ev_per_ang"]) > 1.0
    assert {r["stage"] for r in tables["seconds.csv"]} >= {"sample", "train", "validate"}
    assert [r["failure"] for r in tables["stability.csv"]].count("bond C2-H9 broken (1.75 A)") == 2


def test_structures_of_the_view(page: Page, finished: tuple[Path, dict[str, Any]]) -> None:
    text = (finished[0] / "report.html").read_text()
    start = text.index('id="structure-data">') + len('id="structure-data">')
    data = json.loads(text[start : text.index("</script>", start)])
    titles = [entry["title"] for entry in data]
    assert "md-trained, 500 K: failed" in titles
    assert "metamd-trained: worst frame" in titles
    failed = data[titles.index("md-trained, 500 K: failed")]["xyz"].splitlines()
    assert len(failed) == 40 * 11
    trajectory = load_npz(finished[0] / "runs" / "md-500.npz")
    last = np.array([line.split()[1:] for line in failed[-9:]], float)
    np.testing.assert_allclose(last, trajectory.positions[-1], atol=6e-4)
    worst = data[titles.index("md-trained: worst frame")]
    assert len(worst["arrows"]) == 9
    assert len([a for tag, a in page.elements if a.get("class") == "still"]) == len(data)


def test_energies_of_a_model_are_not_taken_for_the_reference_s(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """An arm that a model moved has another zero: only what the reference labelled counts."""
    source, summary = finished
    shutil.copytree(source, tmp_path / "work")
    frames = load_npz(source / "arms" / "md600.npz").with_info(label_source="0123")
    highest, lowest = float(frames.energy.max()), float(frames.energy.min())
    moved = replace(frames, energy=frames.energy + 137.0).with_info(label_source="")
    arms = {
        "md": {"frames": save_npz(frames, tmp_path / "md.npz")},
        "model": {"frames": save_npz(moved, tmp_path / "model.npz")},
        "judged": {
            "frames": tmp_path / "model.npz",
            "labelled": save_npz(frames[:10], tmp_path / "labelled.npz"),
        },
    }
    rows = [{"name": name, **{k: str(p) for k, p in row.items()}} for name, row in arms.items()]
    material = Material(tmp_path / "work", {**summary, "arms": rows})
    assert material.zero_ev == lowest
    found = energies(material)
    assert {row["arm"] for row in csv_rows(found.csv_uri)} == {"md", "judged"}
    captions = {shape.title: shape.caption for shape in structures(material)}
    assert f"md sampled, {highest - lowest:.2f} eV above" in captions["md: highest frame"]
    assert "judged had labelled" in captions["judged: highest frame"]
    assert "model: highest frame" not in captions


def test_arms_of_a_loop_have_their_time(finished: tuple[Path, dict[str, Any]]) -> None:
    """``md@1`` is in no run file, and a run from a dictionary has none."""
    folder, summary = finished
    rows = [{**row, "timestep_fs": 2.0} for row in copy.deepcopy(summary["arms"])]
    rows[1]["name"] = "md@1"
    material = Material(folder, {**summary, "arms": rows, "config_toml": ""})
    times, label = material.times
    assert label == "time / ps"
    steps = material.arms["md@1"].info["step"]
    np.testing.assert_allclose(times["md@1"], steps * 2e-3)


def test_a_liquid_has_its_radial_distribution_on_the_first_screen(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Instead of the principal components, which come further down; its structures have a cell."""
    folder, summary = finished
    summary = copy.deepcopy(summary)
    for given in [*folder.glob("lcurve*"), *(folder / n for n in ("arms", "runs", "predictions"))]:
        (tmp_path / given.name).symlink_to(given)
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    water = molecule("H2O", cell=[6.0, 6.0, 6.0], pbc=True)
    water.positions += 5.9 - water.positions[0]
    for name, atoms in (("salt", salt), ("water", water)):
        save_npz(from_atoms([atoms], name), tmp_path / f"{name}.npz")
    curve = {"name": "reference", "x": [0.0, 1.0], "y": [0.0, 1.0]}
    rdf = {"key": "rdf-O-O", "title": "Radial distribution O–O", "curves": [curve]}
    summary["checks"] = [{"key": "diffusion", "title": "MSD", "curves": [curve]}, rdf]
    for name in ("salt", "water"):
        summary["system"]["structure"] = f"{name}.npz"
        report_case.write(tmp_path, summary)
        page = Page(write_report(tmp_path))
        shown = [i for i in page.ids if i in {*FIGURES, "check-rdf-O-O", "check-diffusion"}]
        assert shown[:4] == ["cross-errors", "stability", "check-rdf-O-O", "parity"]
        assert sorted(shown) == sorted([*FIGURES, "check-rdf-O-O", "check-diffusion"])
        text = (tmp_path / "report.html").read_text()
        start = text.index('id="structure-data">') + len('id="structure-data">')
        first = json.loads(text[start : text.index("</script>", start)])[0]
        assert 'Lattice="' in first["xyz"]
        # Ions are not bonded; a molecule in the cell's corner is whole.
        assert sorted(map(sorted, first["bonds"][0])) == (
            [] if name == "salt" else [[0, 1], [0, 2]]
        )


# What the summary holds while a run goes on, stage by stage.
STAGES = ["system", "arms", "labels", "datasets", "models", "cross_errors", "stability"]


@pytest.mark.parametrize("stage", range(len(STAGES) + 1))
def test_a_run_that_is_going_on_has_a_page(
    finished: tuple[Path, dict[str, Any]], stage: int, tmp_path: Path
) -> None:
    folder, summary = finished
    keep = {"command", "config_toml", "reference", *STAGES[:stage]}
    partial = {k: copy.deepcopy(v) for k, v in summary.items() if k in keep}
    partial["status"] = "running"
    partial["seconds"] = {"sample": 60.0} if stage > 1 else {}
    for name in ("arms", "runs", "predictions"):
        (tmp_path / name).symlink_to(folder / name)
    for file in folder.glob("lcurve*"):
        (tmp_path / file.name).symlink_to(file)
    report_case.write(tmp_path, partial)
    page = Page(write_report(tmp_path))
    assert page.open == []
    assert "This run is still going" in page.text
    assert "No verdict yet" in page.text
    assert ("Errors on held-out frames" in page.text) is (stage >= 6)
    assert ("components" in page.ids) is (stage >= 2)
    assert "could not be made" not in page.text
    if stage > 1:
        assert "Not done yet: select, label, dataset, train, validate." in page.text


def test_a_run_of_a_minute_and_a_folder_of_validate_have_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``metamd report`` needs a summary, not the run file that it is of."""
    report_case.write(tmp_path, {"status": "running", "system": {"formula": "C2H6O"}})
    monkeypatch.setattr("sys.argv", ["metamd", "report", str(tmp_path)])
    cli.main()
    assert "report.html" in capsys.readouterr().out
    assert "Nothing has been sampled yet" in Page(tmp_path / "report.html").text


def test_a_run_that_ended_early_says_why(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    summary = {"system": finished[1]["system"], "status": "failed", "config_toml": ""}
    report_case.write(tmp_path, {**summary, "failure": "arm md: <no> walker gave a frame."})
    failed = Page(write_report(tmp_path))
    assert "This run has failed: arm md: <no> walker gave a frame. The page" in failed.text
    report_case.write(tmp_path, {**summary, "failure": STOPPED})
    stopped = Page(write_report(tmp_path))
    assert "This run was stopped; the same command goes on." in stopped.text
    assert "failed" not in stopped.text


def test_a_run_from_a_dictionary_can_be_repeated(tmp_path: Path) -> None:
    """It has no run file; its work folder keeps the settings all the same."""
    report_case.write(tmp_path, {"status": "running", "config_toml": ""})
    assert "run.json" not in Page(write_report(tmp_path)).text
    config = {"sample": [{"name": "<md>", "steps": 77}]}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    page = Page(write_report(tmp_path))
    assert "Settings (run.json)" in page.text
    assert '"name": "<md>"' in page.text


def test_an_empty_summary_has_a_page(tmp_path: Path) -> None:
    report_case.write(tmp_path, {})
    page = Page(write_report(tmp_path))
    assert "Nothing has been sampled yet" in page.text
    report_case.write(tmp_path, {"status": "failed", "arms": None, "verdict": None, "seconds": 3})
    assert "This run has failed" in Page(write_report(tmp_path)).text


def test_bad_files_cost_their_figures_only(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, summary = finished
    summary = copy.deepcopy(summary)
    (tmp_path / "arms").symlink_to(folder / "arms")
    (tmp_path / "torn.npz").write_bytes((folder / "arms" / "md.npz").read_bytes()[:500])
    summary["arms"][0]["frames"] = "torn.npz"
    summary["arms"][1]["frames"] = "gone.npz"
    summary["cross_errors"][0]["predictions"] = [{"seed": 1, "path": "gone.npz"}]
    summary["cross_errors"][1]["force_rmse_ev_per_ang"] = {"mean": float("nan"), "spread": None}
    summary["stability"][0]["temperature_k"] = "hot"
    report_case.write(tmp_path, summary)
    page = Page(write_report(tmp_path))
    assert page.open == []
    assert "Not shown: torn.npz" in page.text
    assert "gone.npz: no such file" in page.text
    assert "“stability” could not be made" in page.text
    assert "not a number" in page.text
    assert {"cross-errors", "components"} <= set(page.ids)


def test_a_folder_without_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"summary\.json: no such file"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text('{"status": "run')
    with pytest.raises(WorkspaceError, match="cannot be read"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_lcurve_with_and_without_validation(tmp_path: Path) -> None:
    path = tmp_path / "lcurve.out"
    head = "#  step rmse_val rmse_trn lr\n# a remark\n"
    path.write_text(head + " 0 1.0 2.0 1e-3\n 100 0.5 nan 1e-3\n 200 0.4 0.4 1e-\n 3")
    found = read_lcurve(path)
    assert found is not None
    assert found[0] == ["step", "rmse_val", "rmse_trn", "lr"]
    assert found[1].shape == (2, 4)
    path.write_text(head)
    assert read_lcurve(path) is None


def test_long_arms_are_thinned(finished: tuple[Path, dict[str, Any]]) -> None:
    frames = Material.read(finished[0]).arms["md"]
    assert len(thinned(frames, 7)) == 7
    assert thinned(frames, 7).positions[-1].tolist() == frames.positions[-1].tolist()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.10912, "0.109"),
        (2.5e-9, "2.50e-09"),
        (300.0, "300"),
        (12, "12"),
        (float("nan"), "not a number"),
        ("x", "x"),
    ],
)
def test_numbers(value: Any, text: str) -> None:
    assert number(value) == text


def test_spread_has_the_decimals_of_the_mean() -> None:
    assert with_spread({"mean": 0.0805, "spread": 8.7e-4}) == "0.0805 ± 0.0009"
    assert with_spread({"mean": 5004.0, "spread": 0.6}) == "5004 ± 1"
    assert with_spread({"mean": 0.2, "spread": None}) == "0.200"
    # A spread that would read 0 brings its own decimals, unless they are too many.
    assert with_spread({"mean": 152.3, "spread": 0.44}) == "152.3 ± 0.4"
    assert with_spread({"mean": 99.6, "spread": 0.04}) == "99.60 ± 0.04"
    assert with_spread({"mean": 152.3, "spread": 4e-9}) == "152 ± 4e-09"
    assert with_spread({"mean": 152.3, "spread": 0.0}) == "152 ± 0"
    assert with_spread(None) == "–"


def test_terminal_summary(finished: tuple[Path, dict[str, Any]]) -> None:
    out = io.StringIO()
    print_summary(finished[1], Console(file=out, width=120))
    text = out.getvalue()
    assert text.startswith("Usable: the model trained on metamd.")
    for word in ("force RMSE", "eV/Å", "meV/atom", "metamd", "md600", "bond C2-H9 broken"):
        assert word in text
    out = io.StringIO()
    print_summary({"status": "running"}, Console(file=out, width=80))
    assert out.getvalue().strip() == (
        "No verdict yet: no model has been tested on held-out frames."
    )


@pytest.mark.skipif(browser.PROGRAM is None, reason="Chromium is not installed")
def test_page_in_chromium(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Opens from disk without a request or an error; the 3D view draws and turns."""
    chromium = browser.Browser(tmp_path / "profile")
    try:
        chromium.open(finished[0] / "report.html")
        # Every figure has a size and something drawn in it.
        sizes = chromium.run(
            "[...document.querySelectorAll('figure svg')].map(s => "
            "[s.getBoundingClientRect().height, s.querySelectorAll('path, image, text').length])"
        )
        assert len(sizes) == len(FIGURES)
        assert all(height > 80 and drawn > 5 for height, drawn in sizes)
        chromium.run("document.getElementById('structures').scrollIntoView()")
        chromium.wait("document.getElementById('viewer').dataset.state === 'ready'")
        assert chromium.run("document.querySelector('#viewer canvas').width") > 100
        before = chromium.run("metamdView()")
        x, y = chromium.run(
            "(r => [r.x + r.width / 2, r.y + r.height / 2])"
            "(document.getElementById('viewer').getBoundingClientRect())"
        )
        chromium.drag(x, y, 120, 50)
        after = chromium.run("metamdView()")
        assert np.abs(np.array(after[4:]) - before[4:]).max() > 0.1
        chromium.run("document.querySelectorAll('.still')[0].click()")
        chromium.wait("document.getElementById('viewer').dataset.shown === '0'")
        # The bonds of the page are drawn: a stick has both its atoms' colours.
        assert chromium.run("metamdBonds()") == 8
        # On a phone nothing runs off the side.
        chromium.size(390, 844, mobile=True)
        assert chromium.run("document.documentElement.scrollWidth") <= 390
        # Ink follows the colour scheme.
        ink = "getComputedStyle(document.querySelector('figure svg')).color"
        light = chromium.run(ink)
        chromium.dark(True)
        assert chromium.run(ink) != light
        requests = [url for url in chromium.requests if not url.startswith(("data:", "blob:"))]
        assert requests == [(finished[0] / "report.html").resolve().as_uri()]
        # Chromium's software WebGL warns about its own speed.
        problems = [m for m in chromium.messages if "GL Driver Message" not in m]
        assert problems == []
    finally:
        chromium.close()
