// What is searched for, and the page's address that says so.

const MAX_TEXT = 1000;
const WORD_ORDER = ["department", "color", "pattern", "material", "neckline", "sleeve", "category"];

/** Nothing is searched for. `picture` is an entry of `Pictures`; `weight` null: as the model learnt it. */
export const NOTHING = Object.freeze({
  text: "", item: null, picture: null, filters: {}, goes: false, compare: false, weight: null, index: null,
});

export const nFilters = (state) => Object.values(state.filters).reduce((sum, values) => sum + values.length, 0);

/** Whether it is the start page that is asked for. */
export const isNothing = (state) => !state.text && !state.item && !state.picture && nFilters(state) === 0;

/** Whether only filters are given: the catalogue is browsed, by the words of the filters. */
export const isBrowsing = (state) => !state.text && !state.item && !state.picture && nFilters(state) > 0;

export const isRefined = (state) => Boolean(state.text && (state.item || state.picture));

/** The words that are sent: what was typed or, with nothing else to go by, what the filters say. */
export function wordsOf(state) {
  if (!isBrowsing(state)) return state.text;
  const place = (name) => (WORD_ORDER.includes(name) ? WORD_ORDER.indexOf(name) : -1);
  const names = Object.keys(state.filters).sort((a, b) => place(a) - place(b));
  return names.flatMap((name) => state.filters[name]).join(" ").slice(0, MAX_TEXT);
}

/** The same search with one filter value switched on or off. */
export function withFilter(state, name, value, on) {
  const others = (state.filters[name] ?? []).filter((known) => known !== value);
  const filters = { ...state.filters, [name]: on ? [...others, value] : others };
  if (!filters[name].length) delete filters[name];
  return { ...state, filters };
}

/** The query string of a search; the picture itself cannot stand in it. */
export function toAddress(state) {
  const params = new URLSearchParams();
  if (state.text) params.set("q", state.text);
  if (state.item) params.set("item", state.item);
  if (state.picture) params.set("picture", "1");
  for (const [name, values] of Object.entries(state.filters)) values.forEach((value) => params.append(name, value));
  if (state.goes) params.set("goes", "1");
  if (state.compare) params.set("compare", "1");
  if (state.weight !== null) params.set("weight", String(state.weight));
  if (state.index) params.set("index", state.index);
  const query = params.toString();
  return query ? `?${query}` : "";
}

/**
 * The search that an address names, and what of it can no longer be had, as sentences.
 *
 * Whatever stands in an address, the result can be searched for: it is read as untrusted text.
 */
export function fromAddress(search, catalogue, picture) {
  const params = new URLSearchParams(search);
  const lost = [];
  const filters = {};
  for (const [name, values] of Object.entries(catalogue.facets)) {
    const known = new Set(values.map((facet) => facet.value));
    const asked = [...new Set(params.getAll(name))];
    const kept = asked.filter((value) => known.has(value));
    asked.filter((value) => !known.has(value)).forEach((value) => lost.push(`This catalogue has no ${name} “${value}”.`));
    if (kept.length) filters[name] = kept;
  }
  const item = params.get("item") || null;
  const wantsPicture = params.has("picture") && !item;
  if (wantsPicture && !picture) {
    lost.push("The picture you searched by is not kept when the page is loaded anew. Please add it again.");
  }
  const weight = Number.parseFloat(params.get("weight") ?? "");
  const index = params.get("index");
  const state = {
    text: (params.get("q") ?? "").trim().slice(0, MAX_TEXT),
    item,
    picture: wantsPicture ? (picture ?? null) : null,
    filters,
    goes: params.get("goes") === "1" && catalogue.reranks.includes("compatibility"),
    compare: params.get("compare") === "1" && catalogue.models.length > 1,
    weight: weight >= 0 && weight <= 1 ? weight : null,
    index: catalogue.indexes.includes(index) ? index : null,
  };
  if (!state.item && !state.picture) state.goes = false;
  return { state, lost };
}
