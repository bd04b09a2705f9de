"use strict";
// The 3D view: one WebGL canvas, in which the pictures below it are opened.
(() => {
  const data = JSON.parse(document.getElementById("structure-data").textContent);
  const box = document.getElementById("viewer");
  const caption = document.getElementById("viewer-caption");
  const play = document.getElementById("viewer-play");
  const spin = document.getElementById("viewer-spin");
  const cards = [...document.querySelectorAll(".still")];
  let viewer = null;
  let current = null;
  let close = 1.3;

  function start() {
    box.replaceChildren();
    viewer = $3Dmol.createViewer(box, { backgroundAlpha: 0.0, antialias: true });
    if (!viewer) throw new Error("no WebGL");
    box.dataset.state = "ready";
  }

  // Bonds are those of the page: found from distances alone, a melt would be one molecule.
  function bind(model, frames) {
    model.frames.forEach((atoms, frame) => {
      atoms.forEach((atom, index) => Object.assign(atom, { index, bonds: [], bondOrder: [] }));
      for (const [i, j] of frames[frame]) {
        for (const [a, b] of [[i, j], [j, i]]) { atoms[a].bonds.push(b); atoms[a].bondOrder.push(1); }
      }
    });
  }

  function style() {
    viewer.setStyle({}, { stick: { radius: 0.11 }, sphere: { scale: 0.24 } });
    viewer.setStyle({ bonds: 0 }, { sphere: { scale: 0.3 } });
  }

  function look() {
    viewer.zoomTo();
    viewer.zoom(close);
  }

  function show(index) {
    const entry = data[index];
    try {
      if (!viewer) start();
    } catch (error) {
      box.dataset.state = "failed";
      box.textContent = "The 3D view needs WebGL, which this browser does not offer.";
      return;
    }
    const frames = entry.bonds.length;
    viewer.stopAnimate();
    viewer.removeAllModels();
    viewer.removeAllShapes();
    const model = viewer.addModelsAsFrames(entry.xyz, "xyz", { assignBonds: false });
    bind(model, entry.bonds);
    style();
    if (entry.xyz.includes("Lattice=")) {
      viewer.addUnitCell(model, { box: { color: "#7d8a97" }, astyle: { hidden: true },
        bstyle: { hidden: true }, cstyle: { hidden: true } });
    }
    for (const a of entry.arrows) {
      if (Math.hypot(a[3] - a[0], a[4] - a[1], a[5] - a[2]) < 0.08) continue;
      viewer.addArrow({
        start: { x: a[0], y: a[1], z: a[2] }, end: { x: a[3], y: a[4], z: a[5] },
        radius: 0.09, radiusRatio: 2.2, color: "#d1555b",
      });
    }
    play.hidden = frames <= 1;
    play.textContent = "Play";
    close = entry.xyz.includes("Lattice=") ? 1.35 : 1.3;
    look();
    if (frames > 1) viewer.setFrame(frames - 1).then(() => viewer.render());
    viewer.render();
    current = index;
    box.dataset.shown = String(index);
    caption.textContent = entry.title + ". " + cards[index].querySelector("span").textContent;
    cards.forEach((card, k) => card.setAttribute("aria-current", String(k === index)));
  }

  cards.forEach((card, k) => card.addEventListener("click", () => {
    show(k);
    box.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }));
  play.addEventListener("click", () => {
    if (viewer.isAnimated()) {
      viewer.stopAnimate();
      play.textContent = "Play";
    } else {
      viewer.animate({ loop: "forward", interval: 90, reps: 0 });
      play.textContent = "Stop";
    }
  });
  spin.addEventListener("click", () => {
    if (current === null) return;
    const on = spin.getAttribute("aria-pressed") !== "true";
    spin.setAttribute("aria-pressed", String(on));
    viewer.spin(on ? "y" : false);
  });
  document.getElementById("viewer-reset").addEventListener("click", () => {
    if (viewer) { look(); viewer.render(); }
  });
  // For tests: where the camera looks, and how many bonds the model that is shown has.
  window.metamdBonds = () => viewer.getModel().selectedAtoms({})
    .reduce((sum, atom) => sum + atom.bonds.length, 0) / 2;
  window.metamdView = () => (viewer ? viewer.getView() : null);

  // WebGL starts when the view comes near the screen: the page itself opens at once.
  const first = Math.max(0, data.findIndex((entry) => /failed|worst/.test(entry.title)));
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      show(first);
    }
  }, { rootMargin: "200px" }).observe(box);
})();
