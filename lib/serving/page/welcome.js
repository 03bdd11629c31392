// The start page: made of what the catalogue holds, without a word that was thought up.

import { card } from "./cards.js";
import { swatch } from "./colours.js";
import { byId, capital, el, number } from "./dom.js";
import { pictureAddress, search } from "./server.js";
import { NOTHING } from "./state.js";

const TILES = 8;
const PER_TILE = 4;
const EXAMPLES = 6;
const COLOURS = 10;
const LOOK = 12;

/** Facet whose values are the shop's departments: categories, or the next best. */
function leading(facets) {
  return ["category", "department", "color"].find((name) => (facets[name] ?? []).length > 1) ?? null;
}

/** Searches that real items would answer, such as "red v-neck cardigans"; every item gives one, no two begin alike. */
export function examplesFrom(items) {
  const traits = ["neckline", "pattern", "material", "sleeve"];
  const dull = new Set(["solid"]);
  const texts = [];
  items.forEach((item, place) => {
    const noun = item.category ?? item.department;
    if (!noun) return;
    const order = traits.map((_, step) => traits[(step + place) % traits.length]);
    const trait = order.map((name) => item[name]).find((value) => value && !dull.has(value));
    const text = [place % 3 === 2 ? null : item.color, place % 3 === 0 ? null : trait, noun].filter(Boolean).join(" ");
    if (text !== noun && !texts.includes(text)) texts.push(text);
  });
  return texts.slice(0, EXAMPLES);
}

/** Best items of each leading value, a search each; what fails is left out while anything is found. */
async function sections(catalogue, name, signal) {
  const values = catalogue.facets[name].slice(0, TILES);
  const asked = values.map(({ value }) => search(
    { ...NOTHING, filters: { [name]: [value] } }, { model: catalogue.models[0], offset: 0, k: PER_TILE, signal },
  ));
  const answers = await Promise.allSettled(asked);
  if (answers.every((answer) => answer.status === "rejected")) throw answers[0].reason;
  return values.map((facet, place) => ({ ...facet, items: answers[place].value?.results ?? [] })).filter((part) => part.items.length);
}

/**
 * Fill `#welcome`.
 *
 * @param on has `text(words)`, `filter(name, value)`, `similar(item)`, `pick()` and perhaps `goesWith(item)`.
 */
export async function welcome(catalogue, on, signal) {
  const node = byId("welcome");
  const parts = el("div", { class: "parts" });
  const pick = el("button", { type: "button", class: "link", onclick: on.pick }, "choose one");
  const examples = el("div", { class: "examples", role: "group", "aria-label": "Examples" });
  node.replaceChildren(
    el("p", { class: "lead soft" }, `${number(catalogue.items)} items. Describe what you look for, drop or paste a picture anywhere, or `, pick),
    examples, parts,
  );
  const name = leading(catalogue.facets);
  node.dataset.complete = name ? "" : "yes";
  if (!name) return;
  const found = await sections(catalogue, name, signal);
  if (signal.aborted) return;
  const firsts = found.map((part) => part.items[0]);
  examples.replaceChildren(...examplesFrom(firsts).map((words) => el("button", { type: "button", class: "chip example", onclick: () => on.text(words) }, el("bdi", {}, words))));
  const colours = name === "color" ? [] : (catalogue.facets.color ?? []).slice(0, COLOURS).filter((facet) => swatch(facet.value));
  const look = [1, 2, 3].flatMap((rank) => found.map((part) => part.items[rank])).filter(Boolean).slice(0, LOOK);
  parts.replaceChildren(...[
    part(`By ${name}`, el("ul", { class: "tiles" }, ...found.map((one) => tile(name, one, on)))),
    colours.length > 2 ? part("By color", el("ul", { class: "colours" }, ...colours.map(({ value }) => el("li", {},
      el("button", { type: "button", onclick: () => on.filter("color", value) }, swatch(value), el("bdi", {}, value)))))) : null,
    look.length > 3 ? part("Find more like one of these", el("ul", { class: "grid" }, ...look.map((item) => card(
      { ...item, score: undefined, matched: [] }, { wanted: {}, only: "", onSimilar: on.similar, onGoes: on.goesWith },
    )))) : null,
  ].filter(Boolean));
  node.dataset.complete = "yes";
}

const part = (heading, content) => el("section", {}, el("h2", {}, heading), content);

function tile(name, { value, count, items }, on) {
  const picture = el("img", { alt: value, loading: "lazy", decoding: "async", draggable: "false" });
  picture.src = pictureAddress(items[0].item_id);
  return el("li", {}, el("button", { type: "button", class: "tile", onclick: () => on.filter(name, value) },
    el("span", { class: "shot" }, picture), el("span", { class: "tile-name" }, el("bdi", {}, capital(value))),
    el("span", { class: "soft" }, number(count))));
}
