// What is searched for, in words.

import { shortName } from "./cards.js";
import { byId, capital, el, shorten } from "./dom.js";
import { isBrowsing, isNothing } from "./state.js";

function headingOf(state, item) {
  const quoted = (text) => ["“", el("bdi", {}, shorten(text, 70)), "”"];
  if (isNothing(state)) return ["Find it by words, by a picture, or both"];
  if (isBrowsing(state)) return [el("bdi", {}, capital(Object.values(state.filters).flat().join(", ")))];
  if (!state.item && !state.picture) return ["Results for ", ...quoted(state.text)];
  const given = state.picture ? ["your picture"] : quoted(item ? shortName(item) : state.item);
  return [state.goes ? "Goes with " : "Like ", ...given, ...(state.text ? [", with ", ...quoted(state.text)] : [])];
}

/** Heading and title of the page; `item` is what is known of `state.item`, or null. */
export function showHeading(state, item) {
  const parts = headingOf(state, item);
  byId("title").replaceChildren(...parts);
  const words = parts.map((part) => part.textContent ?? part).join("");
  document.title = isNothing(state) ? "Fashion search" : `${shorten(words, 80)} – Fashion search`;
}
