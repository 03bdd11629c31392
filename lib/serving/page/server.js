// What the page asks of the server, and how it hears that something is wrong.

import { isRefined, wordsOf } from "./state.js";

export const PAGE = 20;

/** The server answered, but not with what was asked for. */
export class Refused extends Error {
  constructor(status, detail, seconds) {
    super(detail);
    this.status = status;
    this.seconds = seconds;
  }
}

/** No answer came. */
export class Unreachable extends Error {}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(error.message);
  }
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!response.ok || content === null) {
    const detail = typeof content?.detail === "string" ? content.detail : `the server answered ${response.status}`;
    throw new Refused(response.status, detail, Number(response.headers.get("Retry-After")) || 1);
  }
  return content;
}

export const catalogue = () => ask("api/catalogue");

/** Why the server is not ready, or null when it is. */
export async function whyNotReady() {
  try {
    await ask("readyz");
    return null;
  } catch (error) {
    if (error instanceof Refused) return error.message;
    throw error;
  }
}

export const item = (id, signal) => ask(`api/item?id=${encodeURIComponent(id)}`, { signal });

export const pictureAddress = (id) => `api/picture?id=${encodeURIComponent(id)}`;

/** A page of results of one model. */
export function search(state, { model, offset, signal, k = PAGE }) {
  const body = { model, k, offset, filters: state.filters, rerank: state.goes ? "compatibility" : "none" };
  const text = wordsOf(state);
  if (text) body.text = text;
  if (state.index) body.index = state.index;
  if (isRefined(state) && state.weight !== null) body.image_weight = state.weight;
  if (state.picture) {
    const form = new FormData();
    form.append("image", state.picture.blob, "picture");
    form.append("options", JSON.stringify(body));
    return ask("api/search/image", { method: "POST", body: form, signal });
  }
  if (state.item) body.item = state.item;
  return ask("api/search", {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal,
  });
}
