// The page from the keyboard, beyond what links, buttons and boxes do by themselves.

/** Arrow keys go from picture to picture, up and down by rows. */
export function walkWithArrows(grid) {
  grid.addEventListener("keydown", (event) => {
    const here = event.target.closest?.(".shot");
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -2, ArrowDown: 2 };
    if (!here || !(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    const shots = [...here.closest("ul").querySelectorAll("button.shot")];
    const top = shots[0].getBoundingClientRect().top;
    const perRow = shots.filter((shot) => shot.getBoundingClientRect().top === top).length;
    const step = steps[event.key];
    const next = shots[shots.indexOf(here) + (Math.abs(step) === 1 ? step : (step / 2) * perRow)];
    event.preventDefault();
    next?.focus();
  });
}

/** "/" goes to the search field from wherever nothing is being typed. */
export function slashGoesTo(field) {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=checkbox]):not([type=range]), textarea, select, dialog");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

/** The skip link moves the focus, and leaves the address alone: a search stands there. */
export function skipTo(target) {
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    target.focus();
  });
}
