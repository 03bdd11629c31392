// What is searched by, beside the words: an item or a picture, as a small picture in the bar and a panel below it.

import { nameOf, pictureOf, FACETS } from "./cards.js";
import { swatch } from "./colours.js";
import { byId, el, icon } from "./dom.js";
import { isRefined } from "./state.js";

function uploaded(state) {
  const picture = el("img", { alt: "Your picture", draggable: "false" });
  picture.src = state.picture.address;
  return picture;
}

/** Bar and panel of the query. */
export class QueryPanel {
  #shown = "";

  /** @param on has `remove`, `goes(bool)`, `weight(number or null)`, `keep(name, value, on)`. */
  constructor(catalogue, on) {
    this.#on = on;
    this.#catalogue = catalogue;
    const modes = byId("query-mode");
    modes.hidden = !catalogue.reranks.includes("compatibility");
    modes.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) on.goes(button.dataset.goes === "yes");
    });
    const weight = byId("weight");
    weight.addEventListener("change", () => on.weight(Number(weight.value) / 100));
    weight.addEventListener("input", () => this.#say(Number(weight.value) / 100));
    byId("automatic").addEventListener("click", () => {
      weight.focus();
      on.weight(null);
    });
  }

  #on;
  #catalogue;

  /** @param item what is known of `state.item`, or null while that is not known. */
  update(state, item) {
    const key = state.picture ? `picture ${state.picture.key}` : state.item ? `item ${state.item} ${Boolean(item)}` : "";
    if (key !== this.#shown) this.#rebuild(state, item);
    this.#shown = key;
    byId("query").hidden = !key;
    for (const button of byId("query-mode").children) {
      button.setAttribute("aria-pressed", String((button.dataset.goes === "yes") === state.goes));
    }
    for (const button of byId("keep").querySelectorAll("button")) {
      const { name, value } = button.dataset;
      button.setAttribute("aria-pressed", String((state.filters[name] ?? []).includes(value)));
      button.hidden = state.goes && name === "category"; // what goes with it is of another one
    }
    byId("refine").hidden = !isRefined(state) || state.goes;
    byId("weight").value = String(Math.round(100 * (state.weight ?? 0.5)));
    byId("automatic").hidden = state.weight === null;
    this.#say(state.weight);
  }

  #say(weight) {
    const words = weight === null ? "automatic" : `${Math.round(weight * 100)} % picture, ${Math.round(100 - weight * 100)} % words`;
    byId("weight").setAttribute("aria-valuetext", words);
    byId("weight").title = words;
  }

  #rebuild(state, item) {
    const given = byId("given");
    const what = state.picture ? "picture" : "item";
    if (!state.picture && !state.item) {
      given.replaceChildren();
      byId("query-picture").replaceChildren();
      byId("keep").replaceChildren();
      return;
    }
    const picture = () => (state.picture ? uploaded(state) : pictureOf(item ?? { item_id: state.item }, { lazy: false }));
    given.replaceChildren(picture(), el("button", {
      type: "button", "aria-label": `Remove the ${what} from the search`, onclick: () => this.#on.remove(),
    }, icon("close")));
    byId("query-picture").replaceChildren(picture());
    byId("query-name").textContent = state.picture ? "Your picture" : item ? nameOf(item) : state.item;
    byId("keep").replaceChildren(...(item ? this.#keepers(item) : []));
  }

  /** What the item bears: each may be made a condition of the results. */
  #keepers(item) {
    const known = FACETS.filter((name) => this.#catalogue.facets[name]?.some((facet) => facet.value === item[name]));
    if (!known.length) return [];
    return [el("span", { class: "soft" }, "Keep only"), ...known.map((name) => {
      const value = item[name];
      const button = el("button", { type: "button", class: "chip keep", title: `only items with ${name} ${value}`,
        onclick: () => this.#on.keep(name, value, button.getAttribute("aria-pressed") !== "true") },
      icon("check"), name === "color" ? swatch(value) : null, el("bdi", {}, value));
      Object.assign(button.dataset, { name, value });
      return button;
    })];
  }
}
