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

  function start() {
    box.replaceChildren();
    viewer = $3Dmol.createViewer(box, { backgroundAlpha: 0.0, antialias: true });
    if (!viewer) throw new Error("no WebGL");
    box.dataset.state = "ready";
  }

  function style() {
    viewer.setStyle({}, { stick: { radius: 0.11 }, sphere: { scale: 0.24 } });
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
    const frames = entry.xyz.trimEnd().split("\n").length / (parseInt(entry.xyz, 10) + 2);
    viewer.stopAnimate();
    viewer.removeAllModels();
    viewer.removeAllShapes();
    if (frames > 1) viewer.addModelsAsFrames(entry.xyz, "xyz");
    else viewer.addModel(entry.xyz, "xyz");
    style();
    for (const a of entry.arrows) {
      if (Math.hypot(a[3] - a[0], a[4] - a[1], a[5] - a[2]) < 0.08) continue;
      viewer.addArrow({
        start: { x: a[0], y: a[1], z: a[2] }, end: { x: a[3], y: a[4], z: a[5] },
        radius: 0.07, radiusRatio: 2.2, color: "#d1555b",
      });
    }
    play.hidden = frames <= 1;
    play.textContent = "Play";
    viewer.zoomTo();
    viewer.zoom(1.5);
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
    if (viewer) { viewer.zoomTo(); viewer.zoom(1.5); viewer.render(); }
  });
  // For tests: where the camera looks.
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
