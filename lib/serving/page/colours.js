// Swatches for colours that shops name; a name that is not here gets none.

const COLOURS = new Map(Object.entries({
  black: "#1c1c1c", charcoal: "#3b3f44", grey: "#8e9196", gray: "#8e9196", silver: "#c4c7ca", white: "#ffffff",
  "off white": "#f6f2e7", ivory: "#f7f1dd", cream: "#f3e9cf", beige: "#dcc9a6", nude: "#e2bfa3", skin: "#e2bfa3",
  tan: "#c69a6b", camel: "#bf9160", khaki: "#a99a6b", taupe: "#8f8174", brown: "#6f4a2f", coffee: "#5a4032",
  chocolate: "#4f2f20", rust: "#a9502a", copper: "#b0703f", bronze: "#94703b", gold: "#cda43c", mustard: "#cf9a22",
  yellow: "#f0cd3a", lime: "#a5cf3a", peach: "#f6b894", coral: "#f1765f", orange: "#e8822d", red: "#c62f2f",
  burgundy: "#70192b", maroon: "#6b1f2a", wine: "#6a1c30", pink: "#ec9cb7", rose: "#d97c8d", magenta: "#bf2f83",
  fuchsia: "#c7308a", lavender: "#b7a4dc", lilac: "#bfa3d6", mauve: "#a8799b", purple: "#6c3f97", violet: "#6c3f97",
  plum: "#5e2b56", blue: "#2f62b5", "light blue": "#9fc4e6", "sky blue": "#86bfe8", navy: "#1f2c4d",
  "navy blue": "#1f2c4d", "royal blue": "#2746a8", denim: "#4a6790", turquoise: "#3fbfb8", teal: "#1f7377",
  mint: "#a7dcc2", green: "#3c8049", "sea green": "#2e8b66", "forest green": "#22502f", olive: "#6f7035",
}));
const MANY = ["multi", "multicolor", "multicolour", "multicoloured", "multicolored", "assorted"];

/** A dot in the colour, or null for a colour without a known name. */
export function swatch(value) {
  const name = value.toLowerCase().replaceAll("-", " ").trim();
  const colour = COLOURS.get(name) ?? COLOURS.get(name.split(" ").at(-1));
  const many = MANY.includes(name.replaceAll(" ", ""));
  if (!colour && !many) return null;
  const dot = document.createElement("i");
  dot.className = many ? "swatch many" : "swatch";
  dot.setAttribute("aria-hidden", "true");
  if (!many) dot.style.backgroundColor = colour;
  return dot;
}
