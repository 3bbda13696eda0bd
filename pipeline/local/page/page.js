
"use strict";
// What the whole page uses: the entries, and how elements, bytes and sizes are written.
const data = JSON.parse(document.getElementById("data").textContent);
const entries = new Map(data.entries.map(entry => [entry.key, entry]));
const byId = id => document.getElementById(id);

/** A new element. Children that are strings become text, never HTML: names of files are not ours. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(attribute, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

/** As the terminal writes it: powers of a thousand. */
function inBytes(count) {
  if (count < 1000) return count === 1 ? "1 byte" : `${count} bytes`;
  const units = ["kB", "MB", "GB", "TB"];
  let unit = -1;
  do { count /= 1000; unit += 1; } while (count >= 999.95 && unit < units.length - 1);
  return `${count.toFixed(1)} ${units[unit]}`;
}

function inPixels(size) {
  const [width, height] = typeof size === "string" ? size.split("x").map(Number) : size;
  return width && height ? `${width} × ${height}` : "";
}

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** What a picture of so many bytes saves, in words. ``other``: what it is compared with, where that must be said. */
function savingInWords(before, bytes, other = "") {
  if (!before) return "";
  if (before === bytes) return other ? `as many bytes as ${other}` : "as many bytes";
  const percent = Math.round(100 * Math.abs(before - bytes) / before);
  return `${inBytes(Math.abs(before - bytes))} ${bytes < before ? "less" : "more"}${other && ` than ${other}`} (${percent} %)`;
}

function notes(entry) {
  const found = [];
  if (entry.state !== "done") found.push(["bad", entry.state, entry.reason]);
  if (entry.advice) found.push(["", "what to do", entry.advice]);
  if (entry.salvaged) found.push(["bad", "salvaged", entry.salvaged]);
  return found.map(([kind, label, text]) => element("p", {class: kind || null}, `${label}: ${text}`));
}
