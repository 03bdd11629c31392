// What is wrong with an open page, as sentences; evaluated by inspection.py.
async () => {
  const faults = [];
  const tell = (what, node) => faults.push(what + (node ? ": " + node.outerHTML.slice(0, 160) : ""));
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (node) => node.checkVisibility({visibilityProperty: true, opacityProperty: true})
    && node.getClientRects().length > 0;

  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth) {
    tell(`the document is ${root.scrollWidth} wide in a window of ${window.innerWidth}`);
    all("body *").filter((n) => n.getBoundingClientRect().right > window.innerWidth + 1
      && !n.closest("[tabindex='0']")).slice(0, 3).forEach((n) => tell("too wide", n));
  }
  if (window.injected) tell("a text of the catalogue ran as a script");
  for (const script of document.scripts) {
    const own = location.protocol === "http:" && script.src.startsWith(location.origin + "/");
    if (script.src && !own) tell("a script from elsewhere", script);
  }
  all("*").forEach((n) => n.getAttributeNames().filter((a) => a.startsWith("on")).forEach(() => tell("a handler", n)));

  all("img").forEach((n) => { if (!n.alt.trim()) tell("a picture without alt", n); });
  // lazy ones that are shown are fetched now, and each is waited for: a slow answer is no fault of the picture
  await Promise.all(all("img").filter((n) => n.loading !== "lazy" || seen(n)).map(async (n) => {
    n.loading = "eager";
    const late = new Promise((_, reject) => { setTimeout(reject, 20000); });
    await Promise.race([n.decode(), late]).catch(() => tell("a picture that does not decode", n));
  }));
  all("canvas").forEach((n) => { if (!n.getAttribute("aria-label")) tell("a canvas without a name", n); });
  all("table").forEach((n) => {
    if (!n.querySelector("th[scope=col]") || !n.querySelector("th[scope=row]")) tell("a table without headers", n);
    n.querySelectorAll("th").forEach((th) => { if (!th.scope) tell("a header without scope", th); });
  });
  // a word of a header that is cut in the middle: the column is too narrow to be read; what the catalogue says (bdi) may be cut
  all("th").forEach((n) => {
    const walk = document.createTreeWalker(n, NodeFilter.SHOW_TEXT);
    for (let text = walk.nextNode(); text; text = walk.nextNode()) {
      if (text.parentElement.closest("bdi")) continue;
      for (const word of text.data.matchAll(/\p{L}{3,16}/gu)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) tell("a cut word", n);
      }
    }
  });
  all("input, select, textarea").forEach((n) => {
    if (!n.labels.length && !n.getAttribute("aria-label")) tell("a control without a label", n);
  });
  all("button, a").forEach((n) => { if (!n.textContent.trim() && !n.ariaLabel) tell("a control without a name", n); });

  const levels = all("h1, h2, h3, h4, h5, h6").map((n) => Number(n.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1 || levels[0] !== 1) tell("not one h1 at the start");
  levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) tell(`h${level} after h${levels[i - 1]}`); });
  const ids = all("[id]").map((n) => n.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => tell("an id twice, " + id));
  if (!root.lang) tell("no language");

  all("body *").forEach((n) => {
    const style = getComputedStyle(n);
    if (/auto|scroll/.test(style.overflowX) && n.scrollWidth > n.clientWidth + 1 && n.tabIndex < 0)
      tell("scrolls, but not by keyboard", n);
  });

  const pixel = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (text) => {
    pixel.clearRect(0, 0, 1, 1); pixel.fillStyle = text; pixel.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (node) => {
    const layers = [];
    for (let n = node; n; n = n.parentElement) layers.push(rgba(getComputedStyle(n).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
    const v = c[i] / 255; return sum + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
  const told = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || /^(SCRIPT|STYLE|NOSCRIPT|OPTION)$/.test(node.tagName) || !seen(node)) continue;
    const back = behind(node), ink = over(rgba(getComputedStyle(node).color), back);
    const [high, low] = [light(back), light(ink)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05), key = `${node.tagName}.${node.className}`;
    if (ratio < 4.5 && !told.has(key)) { told.add(key); tell(`contrast ${ratio.toFixed(2)}`, node); }
  }
  return faults;
}
