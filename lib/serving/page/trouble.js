// When there is nothing to show: not ready, not reachable, refused.

import { byId, el, pause } from "./dom.js";
import { Refused, Unreachable, whyNotReady } from "./server.js";

const LONGEST = 5000; // milliseconds
const AGAIN = 2;

/** Show what is wrong; `actions` are [words, function] of buttons. */
export function tell({ title, text, waiting = false, actions = [] }) {
  document.body.classList.add("troubled");
  byId("trouble").replaceChildren(el("div", { class: waiting ? "panel trouble waiting" : "panel trouble", role: waiting ? "status" : "alert" },
    waiting ? el("span", { class: "spinner", "aria-hidden": "true" }) : null,
    el("div", {},
      el("p", { class: "trouble-title" }, title),
      el("p", { class: "soft", dir: "auto" }, text),
      el("div", { class: "actions" }, ...actions.map(([words, act]) => el("button", { type: "button", class: "button", onclick: act }, words))))));
}

export function tellNothing() {
  document.body.classList.remove("troubled");
  byId("trouble").replaceChildren();
}

/** Nothing was found; with `onClear`, because of filters that it takes away. */
export function tellEmpty(onClear) {
  byId("empty").replaceChildren(el("div", { class: "panel nothing" },
    el("p", { class: "trouble-title" }, onClear ? "Nothing passes all of these filters" : "Nothing was found"),
    el("p", { class: "soft" }, onClear ? "Take one away, or all of them." : "Try other words, or a picture."),
    onClear ? el("button", { type: "button", class: "button", onclick: onClear }, "Clear all filters") : null));
}

/** A line that goes when the next search is made. */
export function notice(...lines) {
  byId("notices").replaceChildren(...lines.map((line) => el("p", { class: "notice" }, el("span", { dir: "auto" }, line),
    el("button", { type: "button", class: "link", onclick: (event) => event.target.closest(".notice").remove() }, "OK"))));
}

/** Wait until the server says that it is ready, and tell the visitor why it is not; false when `signal` ends the wait. */
export async function untilReady(signal) {
  for (let wait = 500; !signal?.aborted; wait = Math.min(wait * 1.5, LONGEST)) {
    try {
      const reason = await whyNotReady();
      if (signal?.aborted) break;
      if (reason === null) return true;
      tell({ title: "Not ready yet", text: `The server says: ${reason}. This page asks again by itself.`, waiting: true });
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      if (!signal?.aborted) tellUnreachable();
    }
    await pause(wait);
  }
  return false;
}

function tellUnreachable() {
  const text = navigator.onLine ? "The server does not answer." : "You are offline.";
  tell({ title: "No connection", text: `${text} This page asks again by itself.`, waiting: true });
}

/**
 * Do what `attempt` does, again where that helps: a server that is not ready or out of reach is waited for, one that is
 * ready is asked twice more. Everything else is thrown.
 */
export async function persist(attempt, signal) {
  for (let again = 0; ; ) {
    try {
      return await attempt();
    } catch (error) {
      const closed = error instanceof Refused && error.status === 503;
      if (!closed && !(error instanceof Unreachable)) throw error;
      if (await isReady()) {
        again += 1;
        if (again > AGAIN) throw error;
        await pause(1000 * Math.min(closed ? error.seconds : 1, LONGEST / 1000));
      } else if (await untilReady(signal)) {
        tellNothing();
      }
      if (signal?.aborted) throw new DOMException("another search was made", "AbortError");
    }
  }
}

async function isReady() {
  try {
    return (await whyNotReady()) === null;
  } catch {
    return false;
  }
}
