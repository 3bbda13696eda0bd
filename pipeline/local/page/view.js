
// The view of one entry: the original under a slider with a rendition, or beside it, and all files with their bytes.
const view = byId("view");
for (const id of ["before", "after"]) byId(`${id}-figure`).prepend(element("img", {id, alt: ""}));
let viewed = null; // its key
let compared = null; // the name of the chosen rendition; kept from photo to photo

function showView(key) {
  const entry = entries.get(key);
  if (!entry) return;
  viewed = key;
  const at = shown.findIndex(other => other.key === key);
  byId("view-name").textContent = key;
  byId("view-place").textContent = at < 0 ? "" : `${(at + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
  byId("view-previous").disabled = at <= 0;
  byId("view-next").disabled = at < 0 || at === shown.length - 1;
  byId("view-notes").replaceChildren(...notes(entry));
  showFiles(entry);
  const pictures = entry.outputs.filter(output => output.picture);
  byId("compare").hidden = pictures.length === 0;
  if (pictures.length) {
    const chosen = pictures.find(output => output.name === compared) ?? entry.outputs[entry.largest];
    byId("which").replaceChildren(...pictures.map(output => element("option", {}, output.name)));
    byId("which").value = chosen.name;
    showPair(entry, chosen);
  }
  if (data.live) showTrial(entry);
  if (!view.open) view.showModal();
}

/** The original and a picture of it. ``picture``: href, size, bytes; and a name. */
function showPair(entry, picture) {
  const before = byId("before"), missing = byId("before-missing");
  const noOriginal = why => {
    missing.textContent = why;
    missing.hidden = false;
    before.hidden = true;
    layOut(true);
  };
  missing.hidden = true;
  before.hidden = false;
  const [width, height] = entry.size.split("x").map(Number), [wide, high] = picture.size;
  const isWhole = Math.abs(width / height - wide / high) < .02 * (wide / high);
  byId("mode").disabled = !isWhole; // a rendition that is cut does not lie over the original
  layOut(byId("mode").value === "beside" || !isWhole);
  byId("stage").style.setProperty("--ratio", wide && high ? wide / high : 1.5);
  before.onerror = () => noOriginal(`The original can't be shown: it has been moved, or this browser does not show ${entry.format || "its format"}.`);
  if (entry.original) before.src = entry.original;
  else noOriginal("The original is not known here.");
  before.alt = "The original";
  byId("after").src = picture.href;
  byId("after").alt = `The rendition ${picture.name}`;
  byId("before-caption").textContent = `original: ${inPixels(entry.size)}, ${inBytes(entry.bytes)}`;
  byId("after-caption").textContent =
    `${picture.name}: ${inPixels(picture.size)}, ${inBytes(picture.bytes)}, ${savingInWords(entry.bytes, picture.bytes)}`;
}

function layOut(isBeside) {
  byId("stage").classList.toggle("beside", isBeside);
  byId("split-label").hidden = isBeside;
}

function showFiles(entry) {
  const row = (name, size, bytes, saving) => element("tr", {}, element("td", {}, name), element("td", {}, inPixels(size)),
    element("td", {}, inBytes(bytes)), element("td", {}, saving));
  const link = (href, text) => href ? element("a", {href, target: "_blank", rel: "noopener"}, text) : text;
  const heads = ["File", "Pixels", "Bytes", "Beside the original"].map(text => element("th", {scope: "col"}, text));
  byId("view-files").hidden = entry.state !== "done";
  byId("view-files").replaceChildren(
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, row(link(entry.original, "original"), entry.size, entry.bytes ?? 0, ""),
      ...entry.outputs.map(output => row(link(output.href, output.path), output.size, output.bytes, savingInWords(entry.bytes, output.bytes)))));
}

function step(by) {
  const next = shown[shown.findIndex(entry => entry.key === viewed) + by];
  if (!next) return;
  current = next.key;
  showView(next.key);
}

list.addEventListener("click", event => {
  const button = event.target.closest(".open");
  if (button) showView(button.dataset.key);
});
byId("view-previous").addEventListener("click", () => step(-1));
byId("view-next").addEventListener("click", () => step(1));
byId("view-close").addEventListener("click", () => view.close());
byId("mode").addEventListener("change", () => showView(viewed));
byId("which").addEventListener("change", () => { compared = byId("which").value; showView(viewed); });
byId("split").addEventListener("input", () => byId("stage").style.setProperty("--split", `${byId("split").value}%`));
view.addEventListener("click", event => { if (event.target === view) view.close(); });
view.addEventListener("close", () => {
  current = viewed; // the browser has given the focus back to the card that the view was opened from
  const at = shown.findIndex(entry => entry.key === current);
  if (at >= 0 && Math.floor(at / PAGE) !== page) showPage(Math.floor(at / PAGE));
  const button = cards().find(each => each.dataset.key === current);
  if (button) choose(button, true);
});
