// Results of one model, or of two side by side with what tells them apart.

import { card } from "./cards.js";
import { byId, capital, el, number } from "./dom.js";

const productOf = (result) => result.product_id ?? result.item_id;

/** How many of the shown results bear each wish: `[{name, value, hits, n}]`. */
export function tally(wanted, results) {
  return Object.entries(wanted).filter(([, value]) => value).map(([name, value]) => ({
    name, value, n: results.length, hits: results.filter((result) => result.matched.includes(name)).length,
  }));
}

function difference(hits, others) {
  if (others === undefined || hits === others) return null;
  const words = hits > others ? `${number(hits - others)} more` : `${number(others - hits)} fewer`;
  return el("span", { class: hits > others ? "more-hits" : "fewer-hits" }, `${hits > others ? "▲" : "▼"} ${words}`);
}

function summary(rows, others) {
  if (!rows.length || !rows[0].n) return null;
  return el("ul", { class: "tally", "aria-label": "How many of the shown results have what is wanted" }, ...rows.map(({ name, value, hits, n }, place) => {
    const bar = el("i", {});
    bar.style.width = `${(100 * hits) / n}%`;
    return el("li", {},
      el("span", { class: "wish" }, el("span", { class: "soft" }, `${name} `), el("bdi", {}, value)),
      el("span", { class: "gauge", "aria-hidden": "true" }, bar),
      el("span", { class: "hits" }, `${number(hits)} of ${number(n)}`, difference(hits, others?.[place]?.hits)));
  }));
}

/**
 * Fill `#columns`.
 *
 * @param sides [{model, results}], one or two; with two, the last is compared with the first.
 * @param wanted is empty where nothing is wished for that could be counted.
 */
export function showColumns(sides, wanted, { onSimilar, onGoes }) {
  const two = sides.length > 1;
  const tallies = sides.map((side) => tally(wanted, side.results));
  const found = sides.map((side) => new Set(side.results.map(productOf)));
  const columns = byId("columns");
  columns.classList.toggle("two", two);
  columns.replaceChildren(...sides.map((side, place) => {
    const other = two ? found[1 - place] : null;
    const heading = `of-${side.model}`;
    const cards = side.results.map((result) => card(result, {
      wanted, onSimilar, onGoes, only: other && !other.has(productOf(result)) ? side.model : "",
    }));
    const alone = two ? side.results.filter((result) => !other.has(productOf(result))).length : 0;
    const node = el("section", { class: "column", "aria-labelledby": heading },
      el("h2", { id: heading, class: two ? "" : "unseen" }, two ? capital(side.model) : "Results"),
      two ? el("p", { class: "soft alone" }, `${number(alone)} of ${number(side.results.length)} found by this model only`) : null,
      summary(tallies[place], two && place === 1 ? tallies[0] : null),
      el("ul", { class: "grid" }, ...cards));
    node.dataset.model = side.model;
    return node;
  }));
  showSides(sides.map((side) => side.model));
}

/** On narrow screens one of two columns is seen; these buttons choose which. */
function showSides(models) {
  const [sides, columns] = [byId("sides"), byId("columns")];
  sides.hidden = models.length < 2;
  if (models.length < 2) return;
  if (!models.includes(columns.dataset.shown)) columns.dataset.shown = models.at(-1);
  const choose = (model) => {
    columns.dataset.shown = model;
    for (const button of sides.children) button.setAttribute("aria-pressed", String(button.dataset.model === model));
  };
  sides.replaceChildren(...models.map((model) => {
    const button = el("button", { type: "button", onclick: () => choose(model) }, capital(model));
    button.dataset.model = model;
    return button;
  }));
  choose(columns.dataset.shown);
}
