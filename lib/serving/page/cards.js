// An item as a card.

import { swatch } from "./colours.js";
import { capital, el, icon, shorten, unseen } from "./dom.js";
import { pictureAddress } from "./server.js";

export const FACETS = ["category", "color", "neckline", "sleeve", "pattern", "material", "department"];
const CHIPS = 4;

/** What an item is called: its caption without the attribute values that stand first in it, or its id. */
export function nameOf(item) {
  const caption = item.caption ?? "";
  const end = caption.indexOf(". ");
  const [head, rest] = end < 0 ? [caption, ""] : [caption.slice(0, end), caption.slice(end + 2)];
  const values = new Set(FACETS.map((name) => item[name]).filter(Boolean));
  const listed = head.split(", ").every((part) => values.has(part));
  return capital((listed ? rest || head : caption).trim()) || item.item_id;
}

/** A name for headings, and for buttons that are read aloud: the first sentence; "U.S." ends none. */
export const shortName = (item) => shorten(nameOf(item).split(/(?<=\p{L}{3})\. /u)[0], 70);

/** An item's picture, or what stands in for one that cannot be shown. */
export function pictureOf(item, { lazy }) {
  const missing = () => picture.replaceWith(el("span", { class: "no-picture" }, "no picture"));
  const picture = el("img", {
    alt: shortName(item), draggable: "false", loading: lazy ? "lazy" : "eager", decoding: "async", onerror: missing,
  });
  picture.src = pictureAddress(item.item_id);
  return picture;
}

function chip(name, value, matches) {
  return el(
    "li", { class: matches ? "chip match" : "chip", title: `${name}: ${value}${matches ? " – as wanted" : ""}` },
    matches ? icon("check") : null, name === "color" ? swatch(value) : null,
    unseen(matches ? `${name}, as wanted: ` : `${name}: `), el("bdi", {}, value),
  );
}

/** What is wanted and borne first, then where the item differs; without wishes the first things known of it. */
function chips(item, wanted) {
  const known = FACETS.filter((name) => item[name]);
  const asked = known.filter((name) => wanted[name]);
  const hits = asked.filter((name) => item.matched.includes(name));
  const others = asked.length ? asked.filter((name) => !hits.includes(name)) : known;
  const shown = [...hits, ...others.slice(0, Math.max(0, CHIPS - hits.length))];
  if (!shown.length) return null;
  return el("ul", { class: "chips" }, ...shown.map((name) => chip(name, item[name], hits.includes(name))));
}

/**
 * A result.
 *
 * @param only says which model alone found it, or is empty.
 * @param onSimilar, onGoes are told the item; no `onGoes`, no button.
 */
export function card(item, { wanted, only, onSimilar, onGoes }) {
  const name = shortName(item);
  const score = item.score === undefined ? null : el(
    "span", { class: "score", title: "score: 1 is the best there can be" }, unseen("score "), item.score.toFixed(2),
  );
  return el(
    "li", { class: "card" },
    el("button", { type: "button", class: "shot", "aria-label": `Search by this item: ${name}`, onclick: () => onSimilar(item) },
      pictureOf(item, { lazy: true })),
    only ? el("p", { class: "only" }, icon("only"), `only ${only}`) : null,
    el("h3", { class: "name", dir: "auto", title: nameOf(item) }, name),
    chips(item, wanted),
    el("div", { class: "foot" },
      el("button", { type: "button", class: "link", "aria-label": `Similar to ${name}`, onclick: () => onSimilar(item) }, "Similar"),
      onGoes ? el("button", { type: "button", class: "link", "aria-label": `Goes with ${name}`, onclick: () => onGoes(item) }, "Goes with") : null,
      score),
  );
}

/** Cards that are yet to come. */
export const skeletons = (count) => Array.from({ length: count }, () => el("li", { class: "card skeleton", "aria-hidden": "true" },
  el("span", { class: "shot" }), el("span", { class: "bone" }), el("span", { class: "bone short" })));
