
// The list: filter, search, sort and pages. However many entries there are, the document holds one page of them.
const PAGE = 60;
const list = byId("sheet");
const inOrder = new Intl.Collator(undefined, {numeric: true}).compare;
const byName = (one, other) => inOrder(one.key, other.key);
const rank = {failed: 0, done: 1, skipped: 2};
const number = value => value ?? Number.MIN_SAFE_INTEGER;
const SORTS = {
  failed: (one, other) => rank[one.state] - rank[other.state] || byName(one, other),
  name: byName,
  saving: (one, other) => number(other.saved) - number(one.saved) || byName(one, other),
  size: (one, other) => number(other.bytes) - number(one.bytes) || byName(one, other),
};
let shown = []; // all that filter and search leave, sorted
let page = 0;
let current = null; // the key of the card that has, or had, the focus

function select() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = byId("state").value, format = byId("format").value;
  return [...entries.values()].filter(entry =>
    (!state || (state === "salvaged" ? entry.salvaged : entry.state === state)) &&
    (!format || entry.format === format) &&
    words.every(word => `${entry.key} ${entry.reason} ${entry.salvaged}`.toLowerCase().includes(word))
  ).sort(SORTS[byId("sort").value]);
}

/** Selects anew, and shows the page with the current card if there is one, else the first. */
function update() {
  shown = select();
  const at = shown.findIndex(entry => entry.key === current);
  showPage(at < 0 ? 0 : Math.floor(at / PAGE));
}

function showPage(wanted) {
  const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1);
  page = Math.min(Math.max(0, wanted), last);
  const first = page * PAGE, part = shown.slice(first, first + PAGE);
  const hadFocus = list.contains(document.activeElement);
  list.replaceChildren(...part.map(card));
  const range = shown.length > PAGE ? `${(first + 1).toLocaleString("en")} to ${(first + part.length).toLocaleString("en")} of ` : "";
  byId("count").textContent = shown.length ? range + plural(shown.length, "file") : "No file matches.";
  byId("pages").hidden = last === 0;
  byId("page").textContent = `Page ${page + 1} of ${last + 1}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === last;
  const buttons = cards();
  const chosen = buttons.find(button => button.dataset.key === current) ?? buttons[0];
  if (chosen) choose(chosen, hadFocus);
}

const cards = () => [...list.querySelectorAll(".open")];

/** One card at a time is in the order of Tab; arrows move between them. */
function choose(button, focus) {
  for (const other of list.querySelectorAll(".open[tabindex='0']")) other.tabIndex = -1;
  button.tabIndex = 0;
  current = button.dataset.key;
  if (focus) button.focus();
}

const made = new WeakMap(); // cards by entry, so that a picture that has not changed is not loaded again

function card(entry) {
  if (!made.has(entry)) made.set(entry, newCard(entry));
  return made.get(entry);
}

function newCard(entry) {
  const preview = entry.preview === null ? null : entry.outputs[entry.preview];
  const board = preview
    ? element("img", {src: preview.href, alt: "", width: preview.size[0], height: preview.size[1], loading: "lazy", decoding: "async"})
    : entry.state === "done" ? entry.outputs.map(output => output.name).join(", ") : entry.state;
  const open = element("button", {class: "open", type: "button", tabindex: "-1", "data-key": entry.key, "aria-haspopup": "dialog"},
    element("span", {class: preview ? "shown" : "shown bare"}, board), element("span", {class: "name"}, entry.key));
  return element("li", {class: "card"}, open, element("div", {class: "about"}, ...facts(entry)));
}

function facts(entry) {
  const rows = [];
  if (entry.state === "done") {
    rows.push(["original", inPixels(entry.size), inBytes(entry.bytes)]);
    for (const output of entry.outputs) rows.push([output.name, inPixels(output.size), inBytes(output.bytes)]);
  }
  const table = rows.flatMap(([name, pixels, bytes]) => [element("dt", {}, name), element("dd", {}, pixels), element("dd", {}, bytes)]);
  const found = [...notes(entry), ...(table.length ? [element("dl", {class: "facts"}, ...table)] : [])];
  if (entry.saved !== null) {
    const saving = savingInWords(entry.bytes, entry.bytes - entry.saved);
    found.push(element("p", {class: entry.saved > 0 ? "good" : "faint"}, saving));
  }
  return found;
}

/** The choice of formats follows from the entries. */
function showFormats() {
  const choice = byId("format"), chosen = choice.value;
  const formats = [...new Set([...entries.values()].map(entry => entry.format).filter(Boolean))].sort();
  choice.replaceChildren(element("option", {value: ""}, "all"), ...formats.map(format => element("option", {}, format)));
  choice.value = formats.includes(chosen) ? chosen : "";
}

for (const [id, what] of [["state", "change"], ["format", "change"], ["sort", "change"], ["search", "input"]]) {
  byId(id).addEventListener(what, () => { current = null; update(); });
}
byId("previous").addEventListener("click", () => turn(-1));
byId("next").addEventListener("click", () => turn(1));
list.addEventListener("focusin", event => {
  const button = event.target.closest(".open");
  if (button) choose(button, false);
});

function turn(pages) {
  current = null;
  showPage(page + pages);
  list.scrollIntoView({block: "start"});
}

byId("app").hidden = false;
showFormats();
update();
