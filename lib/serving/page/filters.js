// Filters with counts. Values keep their place while counts change, so that nothing moves under the pointer.

import { swatch } from "./colours.js";
import { byId, capital, el, icon, number, unseen } from "./dom.js";
import { nFilters } from "./state.js";

const SHOWN = 8;
const SEARCHABLE = 20;
const OPEN = 4;

/** The panel of all filters. */
export class Filters {
  #groups = new Map();

  /** @param onChange is told facet, value and whether it is wanted. */
  constructor(facets, onChange) {
    const groups = Object.entries(facets).filter(([, values]) => values.length > 1);
    this.node = el("div", { class: "filters" }, ...groups.map(([name, values], place) => this.#group(name, values, place, onChange)));
    this.isEmpty = groups.length === 0;
  }

  #group(name, values, place, onChange) {
    const rows = new Map();
    const list = el("ul", { id: `values-${place}` });
    for (const { value } of values) {
      const count = el("span", { class: "n" });
      const box = el("input", { type: "checkbox", onchange: () => onChange(name, value, box.checked) });
      const row = el("li", {}, el("label", {}, box, name === "color" ? swatch(value) : null, el("bdi", {}, value), count));
      rows.set(value, { row, box, count });
      list.append(row);
    }
    const chosen = el("span", { class: "badge" });
    const group = { rows, chosen, all: false, word: "", toggle: null, node: null };
    const more = values.length > SHOWN ? this.#showAll(group, list, values.length) : null;
    const find = values.length > SEARCHABLE ? this.#find(group, name) : null;
    group.node = el("details", { open: place < OPEN },
      el("summary", {}, el("span", {}, capital(name)), chosen, icon("chevron")),
      el("fieldset", {}, el("legend", { class: "unseen" }, capital(name)), find, list, more));
    this.#groups.set(name, group);
    return group.node;
  }

  #showAll(group, list, count) {
    group.toggle = el("button", { type: "button", class: "link", "aria-controls": list.id, onclick: () => {
      group.all = !group.all;
      this.#lay(group);
    } });
    group.toggle.dataset.count = String(count);
    return group.toggle;
  }

  #find(group, name) {
    return el("input", { type: "search", class: "find", placeholder: `Find in ${name}`, "aria-label": `Find in ${name}`,
      oninput: (event) => {
        group.word = event.target.value.trim().toLowerCase();
        this.#lay(group);
      } });
  }

  /**
   * The most frequent values are seen, those that are chosen, and all of them or those with a word on request. Where none
   * of the most frequent can be chosen, as beside what goes with an item, the most frequent of those that can.
   */
  #lay(group) {
    const rows = [...group.rows], common = rows.slice(0, SHOWN);
    const some = rows.filter(([, { row }]) => !row.classList.contains("none")).slice(0, SHOWN);
    const first = new Map(some.length && common.every(([, { row }]) => row.classList.contains("none")) ? some : common);
    for (const [value, { row, box }] of rows) {
      const seen = group.word ? value.toLowerCase().includes(group.word) : group.all || first.has(value) || box.checked;
      row.hidden = !seen;
    }
    if (group.toggle) {
      group.toggle.hidden = group.word !== "";
      group.toggle.textContent = group.all ? "Show fewer" : `Show all ${group.toggle.dataset.count}`;
      group.toggle.setAttribute("aria-expanded", String(group.all));
    }
  }

  /** Set boxes and, where `facets` came with an answer, counts. */
  update(filters, facets) {
    for (const [name, group] of this.#groups) {
      const wanted = filters[name] ?? [];
      const counts = facets ? new Map((facets[name] ?? []).map((facet) => [facet.value, facet.count])) : null;
      for (const [value, { row, box, count }] of group.rows) {
        box.checked = wanted.includes(value);
        if (!counts) continue;
        const n = counts.get(value) ?? 0;
        count.replaceChildren(number(n), unseen(n === 1 ? " item" : " items"));
        box.disabled = n === 0 && !box.checked && box !== document.activeElement;
        row.classList.toggle("none", n === 0 && !box.checked);
      }
      group.chosen.textContent = wanted.length ? number(wanted.length) : "";
      if (wanted.length && !group.node.open) group.node.open = true;
      this.#lay(group);
    }
  }
}

/** Chips that take a filter away. */
export function showActive(list, state, { onRemove, onClear }) {
  const all = Object.entries(state.filters).flatMap(([name, values]) => values.map((value) => [name, value]));
  const again = [...list.children].findIndex((row) => row.contains(document.activeElement));
  list.hidden = all.length === 0;
  list.replaceChildren(
    ...all.map(([name, value]) => el("li", {}, el("button", { type: "button", class: "chip active", onclick: () => onRemove(name, value) },
      unseen(`Remove filter ${name}: `), name === "color" ? swatch(value) : null, el("bdi", {}, value), icon("close")))),
    ...(all.length > 1 ? [el("li", {}, el("button", { type: "button", class: "link", onclick: onClear }, "Clear all filters"))] : []),
  );
  if (again < 0) return;
  const left = list.querySelectorAll("button");
  (left[Math.min(again, left.length - 1)] ?? byId("title")).focus({ preventScroll: true });
}

/** The panel stands beside the results, or on narrow screens in a drawer. */
export function placeFilters(filters, { onClear }) {
  const [side, drawer, body, open] = ["side", "drawer", "drawer-body", "open-filters"].map(byId);
  const wide = window.matchMedia("(min-width: 60rem)");
  const heading = el("h2", {}, "Filters");
  const place = () => {
    if (wide.matches) {
      if (drawer.open) drawer.close();
      side.replaceChildren(heading, filters.node);
    } else {
      body.replaceChildren(filters.node);
      side.replaceChildren();
    }
  };
  wide.addEventListener("change", place);
  place();
  open.hidden = filters.isEmpty;
  open.addEventListener("click", () => drawer.showModal());
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer || event.target.closest("[data-close]")) drawer.close();
  });
  byId("drawer-clear").addEventListener("click", onClear);
}

/** What the buttons around the filters say. */
export function labelFilters(state, total) {
  const n = nFilters(state);
  byId("n-filters").replaceChildren(...(n ? [number(n), unseen(" active")] : []));
  byId("drawer-clear").disabled = n === 0;
  byId("drawer-count").textContent = total === null ? "Show results" : `Show ${number(total)} ${total === 1 ? "item" : "items"}`;
}
