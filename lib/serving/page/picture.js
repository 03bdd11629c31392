// A picture to search by: chosen, dropped or pasted, made small where it is large, kept while the page lives.

const MAX_BYTES = 9.9 * 10 ** 6; // the server takes 10 MB with what is sent around it
const LARGE_BYTES = 2 * 10 ** 6; // a phone's photo: smaller is sent faster and found just as well
const SIDE = 1024;
const PLAIN = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"];
const KEPT = 20;

/** A file that cannot be searched by; the message is for the visitor. */
export class NoPicture extends Error {}

/** Pictures by key, so that the back button finds the one it needs; the oldest are let go. */
export class Pictures {
  #kept = new Map();
  #n = 0;

  /** @returns {{key: string, blob: Blob, address: string}} */
  add(blob) {
    this.#n += 1;
    const entry = { key: `${Date.now()}-${this.#n}`, blob, address: URL.createObjectURL(blob) };
    this.#kept.set(entry.key, entry);
    if (this.#kept.size > KEPT) {
      const [oldest] = this.#kept.values();
      URL.revokeObjectURL(oldest.address);
      this.#kept.delete(oldest.key);
    }
    return entry;
  }

  get(key) {
    return this.#kept.get(key) ?? null;
  }
}

/** What is sent of a file. */
export async function prepared(file) {
  if (file.size === 0) throw new NoPicture("That file is empty.");
  if (file.type && !file.type.startsWith("image/")) throw new NoPicture("That file is not a picture.");
  if (file.size <= LARGE_BYTES && PLAIN.includes(file.type)) return file;
  try {
    return await shrunk(file);
  } catch {
    // the browser cannot read it; the server knows a few kinds more and says what it thinks of this one
    if (file.size > MAX_BYTES) throw new NoPicture("That picture is larger than 10 MB and could not be made smaller.");
    return file;
  }
}

async function shrunk(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const brush = canvas.getContext("2d");
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  if (!blob) throw new Error("the canvas gave nothing");
  return blob;
}

/** Tell `take` of every file that is chosen, dropped anywhere on the page, or pasted. */
export function acceptPictures({ button, input, take }) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let inside = 0; // enter and leave are told of every element that is crossed
  const mark = () => document.body.classList.toggle("dragging", inside > 0);
  document.addEventListener("dragenter", (event) => { if (hasFiles(event)) { inside += 1; mark(); } });
  document.addEventListener("dragleave", (event) => { if (hasFiles(event)) { inside = Math.max(0, inside - 1); mark(); } });
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    inside = 0;
    mark();
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}
