// Shows the values of a figure beside pointer, finger or arrow keys. Without it a mark's <title> says the same.
"use strict";
const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "status");
document.body.append(tip);
let shown = null;

function hide() {
  if (shown) shown.element.classList.remove("on");
  tip.classList.remove("on");
  shown = null;
}

function show(svg, mark, [x, y]) {
  if (shown && shown.element === mark.element) return;
  hide();
  shown = mark;
  mark.element.classList.add("on");
  tip.className = "tip on " + mark.colour;
  tip.textContent = mark.element.dataset.words;
  const place = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
  const { width, height } = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - width - 8;
  const above = place.y - height - 14;
  tip.style.left = scrollX + Math.max(8, Math.min(place.x - width / 2, room)) + "px";
  tip.style.top = scrollY + (above < 8 ? place.y + 14 : above) + "px";
}

function markOf(element) {
  const title = element.querySelector("title");
  const mark = { element, colour: element.classList[1], points: [] };
  for (const [, x, y] of element.getAttribute("d").matchAll(/[ML]([\d.]+) ([\d.]+)/g)) mark.points.push([+x, +y]);
  element.dataset.words = title.textContent;
  title.remove();  // or the browser would show it a second time
  return mark;
}

function nearest(svg, marks, rows, event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const [across, down] = rows ? [0.01, 1] : [1, 0.35];
  let best = [Infinity];
  for (const mark of marks) for (const point of mark.points) {
    const distance = Math.hypot((point[0] - at.x) * across, (point[1] - at.y) * down);
    if (distance < best[0]) best = [distance, mark, point];
  }
  return best;
}

function readable(svg) {
  const group = svg.querySelector(".marks");
  const marks = Array.from(group.querySelectorAll(".mark"), markOf);
  const rows = group.classList.contains("rows");
  const point = (event) => {
    const [distance, mark, place] = nearest(svg, marks, rows, event);
    if (distance < 40) show(svg, mark, place); else hide();
  };
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  const go = (step) => {
    const next = Math.max(0, Math.min(marks.indexOf(shown) + step, marks.length - 1));
    show(svg, marks[next], marks[next].points[0]);
  };
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "application");
  svg.setAttribute("aria-label", svg.getAttribute("aria-label") + " The arrow keys read the values.");
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  svg.addEventListener("blur", () => { if (shown && svg.contains(shown.element)) hide(); });
  svg.addEventListener("keydown", (event) => {
    if (event.key in steps) { event.preventDefault(); go(steps[event.key]); }
  });
}

document.querySelectorAll("figure svg").forEach(readable);
document.addEventListener("pointerdown", (event) => { if (!event.target.closest("figure svg")) hide(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
addEventListener("resize", hide);
