"use strict";

// Figures: drawn from the JSON beside them, in the page's colours, again when those change.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();

for (const place of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const layout = { ...figure.plot.layout, font: { ...figure.plot.layout.font, color: ink() } };
  Plotly.newPlot(place, figure.plot.data, layout, { responsive: true, displaylogo: false, displayModeBar: false })
    .then(() => fit(place, layout.height));
  window.addEventListener("resize", () => fit(place, layout.height));
}

// A narrow page stacks a legend's names: the figure grows by them, so that the plot does not shrink.
function fit(place, height) {
  const legend = place.querySelector(".scrollbox");
  const names = legend ? legend.getBBox().height : 0;
  place.style.height = `${height + names}px`;
  Plotly.relayout(place, { height: height + names });
}

// Tables that are folded up are printed too.
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:has(table)")) folded.open = true;
});
dark.addEventListener("change", () => {
  for (const place of document.querySelectorAll(".plot")) Plotly.relayout(place, { "font.color": ink() });
});

// A figure's choices: each changes its traces and its axes.
for (const select of document.querySelectorAll("select[data-figure]")) {
  const figure = JSON.parse(document.getElementById(select.dataset.figure).textContent);
  const place = document.querySelector(`.plot[data-figure="${select.dataset.figure}"]`);
  select.addEventListener("change", () => {
    const choice = figure.switches[select.value];
    Plotly.update(place, choice.traces, choice.layout);
  });
}

// Tables: a click on a heading sorts by its column, a second click the other way round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    const index = [...heading.parentElement.children].indexOf(heading);
    const body = heading.closest("table").tBodies[0];
    const key = (row) => row.cells[index].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing stays last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return ascending ? order : -order;
    };
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    body.append(...[...body.rows].sort(compare));
  });
}
