// The search page: what is searched for stands in the address, every change of it is a search, and only the answer
// of the latest one is shown.

import { skeletons } from "./cards.js";
import { showColumns } from "./compare.js";
import { byId, counted, el, shorten } from "./dom.js";
import { Filters, labelFilters, placeFilters, showActive } from "./filters.js";
import { showHeading } from "./heading.js";
import { skipTo, slashGoesTo, walkWithArrows } from "./keys.js";
import { acceptPictures, NoPicture, Pictures, prepared } from "./picture.js";
import { QueryPanel } from "./query.js";
import * as server from "./server.js";
import { fromAddress, isBrowsing, isNothing, nFilters, NOTHING, toAddress, withFilter } from "./state.js";
import { notice, persist, tell, tellEmpty, tellNothing } from "./trouble.js";
import { welcome } from "./welcome.js";

const KEPT_ANSWERS = 30;
const LATE = 150; // milliseconds after which a search says that it is at work

const pictures = new Pictures();
const items = new Map(); // what is known of items, by id
const answers = new Map(); // what was found, by address and picture
let catalogue, filters, panel;
let state = NOTHING;
let painted = NOTHING; // what the search field was last filled for
let running = new AbortController();

const keyOf = (of) => `${toAddress(of)} ${of.picture?.key ?? ""}`;
const field = byId("text");

// ---- what can be done

const search = (next, how) => show({ ...state, ...next }, how);
const on = {
  remove: () => search({ item: null, picture: null, goes: false, weight: null }, { focus: field }),
  goes: (goes) => search({ goes, text: goes ? "" : state.text, weight: null }),
  weight: (weight) => search({ weight }, { replace: true }),
  keep: (name, value, wanted) => show(withFilter(state, name, value, wanted)),
  filter: (name, value) => show(withFilter(NOTHING, name, value, true), { focus: byId("title") }),
  text: (text) => search({ text }, { focus: byId("title") }),
  similar: (item) => searchByItem(item, false),
  pick: () => byId("file").click(),
};

function searchByItem(item, goes) {
  items.set(item.item_id, item);
  // what goes with an item is of another category: that filter would leave nothing
  const { category, ...others } = state.filters;
  const kept = goes || !category ? others : { category, ...others };
  search({ text: "", item: item.item_id, picture: null, filters: kept, goes, weight: null }, { focus: byId("title") });
}

async function searchByPicture(file) {
  try {
    const picture = pictures.add(await prepared(file));
    search({ picture, item: null, goes: false, weight: null }, { focus: byId("title") });
  } catch (error) {
    if (!(error instanceof NoPicture)) throw error;
    notice(error.message);
  }
}

// ---- a search

/**
 * Show what `next` asks for.
 *
 * @param replace the address instead of adding one to the history; `leave` it as it is.
 * @param focus where the reader goes on; without it, focus stays where it is.
 */
async function show(next, { replace = false, leave = false, focus = null, scroll = 0 } = {}) {
  const same = keyOf(next) === keyOf(state);
  state = next;
  if (!leave) {
    const entry = { picture: next.picture?.key ?? null, scroll: replace ? window.scrollY : 0 };
    const address = toAddress(next) || window.location.pathname;
    if (replace || same) history.replaceState(entry, "", address);
    else history.pushState(entry, "", address);
    notice();
  }
  running.abort();
  running = new AbortController();
  const { signal } = running;
  tellNothing();
  byId("empty").replaceChildren();
  paintQuery();
  document.body.dataset.view = isNothing(next) ? "welcome" : "found";
  const place = byId(isNothing(next) ? "hero" : "heading");
  if (!place.childElementCount) place.append(byId("title")); // to move it is to take its focus
  if (focus) focus.focus({ preventScroll: true });
  if (!replace) window.scrollTo(0, scroll);
  if (isNothing(next)) {
    busy(false);
    byId("columns").replaceChildren();
    if (!byId("welcome").dataset.complete) await attempt(() => welcome(catalogue, on, signal), signal);
    if (scroll) window.scrollTo(0, scroll);
    return;
  }
  const known = answers.get(keyOf(next));
  if (known) {
    busy(false);
    paint(known);
    if (scroll) window.scrollTo(0, scroll);
    return;
  }
  const late = setTimeout(() => { if (!signal.aborted) busy(true); }, LATE);
  try {
    await attempt(() => find(next, signal), signal);
  } finally {
    clearTimeout(late);
    if (!signal.aborted) busy(false);
  }
  if (scroll && !signal.aborted) window.scrollTo(0, scroll);
}

async function find(asked, signal) {
  const [sides] = await Promise.all([ask(asked, 0, signal), knowItem(asked, signal)]);
  if (signal.aborted) return;
  const found = { asked, sides, last: sides.at(-1).answer };
  answers.set(keyOf(asked), found);
  if (answers.size > KEPT_ANSWERS) answers.delete(answers.keys().next().value);
  paint(found);
}

function ask(asked, offset, signal) {
  const models = asked.compare && !asked.goes ? ["baseline", "protocol"] : [catalogue.models[0]];
  return Promise.all(models.map(async (model) => {
    const answer = await server.search(asked, { model, offset, signal });
    return { model, answer, results: answer.results };
  }));
}

async function knowItem(asked, signal) {
  if (!asked.item || items.has(asked.item)) return;
  items.set(asked.item, await server.item(asked.item, signal));
  if (!signal.aborted) paintQuery();
}

async function more() {
  const { signal } = running;
  const asked = state;
  const found = answers.get(keyOf(asked));
  const shown = Math.max(...found.sides.map((side) => side.results.length));
  byId("more").disabled = true;
  await attempt(async () => {
    const next = await ask(asked, shown, signal);
    if (signal.aborted) return;
    found.sides.forEach((side, place) => { side.results = [...side.results, ...next[place].results]; });
    found.last = next.at(-1).answer;
    found.sides.forEach((side, place) => { side.answer = next[place].answer; });
    paint(found);
    const column = [...byId("columns").children].findLast((node) => node.getClientRects().length);
    column?.querySelectorAll("button.shot")[shown]?.focus({ preventScroll: true });
  }, signal);
  byId("more").disabled = false;
}

/** Do it, wait for a server that is not there yet, and say what cannot be helped. */
async function attempt(act, signal) {
  try {
    await persist(act, signal);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    byId("count").textContent = "";
    byId("columns").replaceChildren();
    byId("more").hidden = true;
    const again = ["Try again", () => show(state, { leave: true })];
    const anew = ["Start anew", () => show(NOTHING, { focus: field })];
    if (error instanceof server.Unreachable) {
      tell({ title: "No connection", text: "The server did not answer this search.", actions: [again] });
      return;
    }
    if (!(error instanceof server.Refused)) {
      tell({ title: "Something went wrong", text: String(error), actions: [again, anew] });
      throw error;
    }
    const busyNow = error.status === 503;
    const text = `The server says: ${shorten(error.message, 300)}`;
    tell({ title: busyNow ? "The server is busy" : "This search cannot be answered", text, actions: busyNow ? [again] : [anew] });
  }
}

// ---- what is seen

function busy(at) {
  document.body.classList.toggle("busy", at);
  byId("columns").setAttribute("aria-busy", String(at));
  if (!at) return;
  byId("count").textContent = "Searching …";
  byId("columns").hidden = false;
  if (byId("columns").childElementCount) return;
  byId("columns").classList.remove("two");
  byId("columns").replaceChildren(el("ul", { class: "grid" }, ...skeletons(10)));
}

/** Everything that is known before the answer is. */
function paintQuery() {
  const item = state.item ? (items.get(state.item) ?? null) : null;
  const asked = ["text", "item", "picture"]; // where only filters changed, words that are being typed stay
  if (asked.some((name) => state[name] !== painted[name])) field.value = state.text;
  painted = state;
  byId("clear").hidden = field.value === "";
  field.placeholder = state.item || state.picture ? "Add words" : "What are you looking for?";
  showHeading(state, item);
  panel.update(state, item);
  filters.update(state.filters, null);
  labelFilters(state, null);
  showActive(byId("active"), state, { onRemove: (name, value) => show(withFilter(state, name, value, false)), onClear: clearFilters });
  byId("compare").checked = state.compare;
  byId("compare-choice").hidden = catalogue.models.length < 2 || state.goes;
}

function paint(found) {
  const { asked, sides, last } = found;
  const n = Math.max(...sides.map((side) => side.results.length));
  // what was only filtered by is true of every result, and what goes with something need not share its values
  const wanted = isBrowsing(asked) || asked.goes ? {} : last.wanted;
  filters.update(asked.filters, last.facets);
  labelFilters(asked, last.total);
  byId("count").textContent = n ? `${counted(n, "result")} among ${counted(last.total, "item")}, best first` : "No results";
  showColumns(sides, wanted, { onSimilar: on.similar, onGoes: on.goesWith });
  byId("columns").hidden = n === 0;
  byId("empty").replaceChildren();
  if (n === 0) {
    byId("sides").hidden = true;
    byId("columns").replaceChildren();
    tellEmpty(nFilters(asked) > 0 ? clearFilters : null);
  }
  const onward = sides.some((side) => side.answer.has_more);
  byId("more").hidden = !onward;
  byId("end").textContent = onward || n < 100 ? "" : "These are the best 100. Add words or filters to narrow the search.";
  const { index, model, rerank } = last;
  const of = sides.length > 1 ? "Models baseline and protocol" : `Model ${model}`;
  byId("how-words").textContent = `${of}, index ${index}, re-ranking ${rerank}. One item of each product is shown. `
    + "A score is the cosine of query and item: 1 is the best there can be.";
  byId("index").value = asked.index ?? catalogue.indexes[0];
}

const clearFilters = () => search({ filters: {} }, { focus: byId("drawer").open ? null : byId("title") });

// ---- the page itself

function listen() {
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (window.matchMedia("(pointer: coarse)").matches) field.blur(); // a phone's keyboard hides the results
    search({ text, goes: text ? false : state.goes });
  });
  field.addEventListener("input", () => { byId("clear").hidden = field.value === ""; });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (field.value) clearWords();
    else if (state.item || state.picture) on.remove();
  });
  byId("clear").addEventListener("click", clearWords);
  byId("compare").addEventListener("change", () => search({ compare: byId("compare").checked }));
  byId("index").addEventListener("change", () => search({ index: byId("index").value }));
  byId("more").addEventListener("click", more);
  walkWithArrows(byId("main"));
  slashGoesTo(field);
  skipTo(byId("main"));
  document.querySelector(".brand").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(NOTHING);
  });
  acceptPictures({ button: byId("pick"), input: byId("file"), take: searchByPicture });
  history.scrollRestoration = "manual"; // results come later than the browser would scroll
  let still;
  window.addEventListener("scroll", () => {
    clearTimeout(still);
    still = setTimeout(() => history.replaceState({ ...history.state, scroll: window.scrollY }, ""), 150);
  }, { passive: true });
  window.addEventListener("popstate", () => { clearTimeout(still); openAddress(); });
}

function clearWords() {
  field.value = "";
  byId("clear").hidden = true;
  field.focus();
  if (state.text) search({ text: "" });
}

function openAddress() {
  const picture = pictures.get(history.state?.picture);
  const { state: next, lost } = fromAddress(window.location.search, catalogue, picture);
  notice(...lost);
  return show(next, { leave: true, scroll: history.state?.scroll ?? 0 });
}

async function start() {
  catalogue = await persist(server.catalogue, undefined);
  tellNothing();
  if (catalogue.reranks.includes("compatibility")) on.goesWith = (item) => searchByItem(item, true);
  filters = new Filters(catalogue.facets, (name, value, wanted) => show(withFilter(state, name, value, wanted)));
  filters.update({}, catalogue.facets);
  panel = new QueryPanel(catalogue, on);
  placeFilters(filters, { onClear: clearFilters });
  byId("index").append(...catalogue.indexes.map((name) => el("option", { value: name }, name)));
  byId("index-choice").hidden = catalogue.indexes.length < 2;
  listen();
  await openAddress();
}

start().catch((error) => {
  tell({ title: "This page could not be opened", text: `The server says: ${error.message}`, actions: [["Try again", () => window.location.reload()]] });
  if (!(error instanceof server.Refused)) throw error;
});
