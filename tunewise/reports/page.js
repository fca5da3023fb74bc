"use strict";

// Figures: drawn from the JSON in the page, in the page's text colour, which changes with the theme.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();

for (const place of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const layout = { ...figure.plot.layout, font: { ...figure.plot.layout.font, color: ink() } };
  Plotly.newPlot(place, figure.plot.data, layout, { responsive: true, displaylogo: false, displayModeBar: false })
    .then(() => fit(place, layout.height));
  window.addEventListener("resize", () => fit(place, layout.height));
}

// On a narrow page a legend takes more lines: the figure grows by its height, so that the plot keeps its own.
function fit(place, height) {
  const legend = place.querySelector(".scrollbox");
  const names = legend ? legend.getBBox().height : 0;
  place.style.height = `${height + names}px`;
  Plotly.relayout(place, { height: height + names });
}

// Folded tables are printed too.
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:has(table)")) folded.open = true;
});
dark.addEventListener("change", () => {
  for (const place of document.querySelectorAll(".plot")) Plotly.relayout(place, { "font.color": ink() });
});

// The menu of a figure: each option changes its traces and its x axis.
for (const select of document.querySelectorAll("select[data-figure]")) {
  const figure = JSON.parse(document.getElementById(select.dataset.figure).textContent);
  const place = document.querySelector(`.plot[data-figure="${select.dataset.figure}"]`);
  select.addEventListener("change", () => {
    const view = figure.views[select.value];
    Plotly.update(place, view.traces, view.layout);
  });
}

// Tables: a click on a heading sorts by its column, a second click reverses the order.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    const index = [...heading.parentElement.children].indexOf(heading);
    const body = heading.closest("table").tBodies[0];
    const key = (row) => row.cells[index].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // missing values stay last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return ascending ? order : -order;
    };
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    body.append(...[...body.rows].sort(compare));
  });
}
