
// The workbench: the shown photo with another box, quality and format, made by the pipeline's own code.
let tried = null; // the answer for the shown photo

const choice = (id, label, values, value) => element("label", {}, label, " ",
  element("select", {id}, ...values.map(([each, text]) => element("option", {value: each, selected: each === value}, text))));

function showTrial(entry) {
  const place = byId("trial"), name = byId("which").value;
  const present = renditions.find(each => each.name === name);
  place.hidden = entry.state !== "done" || !present;
  if (place.hidden) return;
  if (place.dataset.for === `${entry.key} ${name} ${JSON.stringify(present)}`) return;
  place.dataset.for = `${entry.key} ${name} ${JSON.stringify(present)}`;
  tried = null;
  const form = element("form", {class: "tools"},
    element("label", {class: "box"}, "Box ", element("input", {id: "try-box", value: present.box, type: "search", autocomplete: "off", spellcheck: "false"})),
    choice("try-fit", "Fit", [["contain", "in the box"], ["cover", "fills the box"]], present.fit),
    choice("try-format", "Format", [["", "by default"], ["jpeg", "JPEG"], ["png", "PNG"], ["webp", "WebP"], ["avif", "AVIF"]], present.format),
    element("label", {class: "box"}, "Quality ",
      element("input", {id: "try-quality", value: present.quality, type: "number", min: "1", max: "100", placeholder: "default"})),
    element("button", {type: "submit", id: "try"}, "Try"));
  form.addEventListener("submit", event => {
    event.preventDefault();
    tryOut(entry, name);
  });
  place.replaceChildren(element("section", {class: "trial", "aria-labelledby": "trial-title"},
    element("h3", {id: "trial-title"}, `Try other settings for ${name}`), form, element("div", {id: "trial-result", "aria-live": "polite"})));
}

async function tryOut(entry, name) {
  const result = byId("trial-result"), button = byId("try");
  button.disabled = true;
  result.replaceChildren(element("p", {}, "Rendering …"));
  try {
    tried = await ask("try", {key: entry.key, name, box: byId("try-box").value, fit: byId("try-fit").value,
      format: byId("try-format").value, quality: byId("try-quality").value});
    if (viewed === entry.key) showTried(entry, name);
  } catch (error) {
    result.replaceChildren(element("p", {class: "bad", id: "trial-error"}, error.message));
  } finally {
    button.disabled = false;
  }
}

function showTried(entry, name) {
  const before = entry.outputs.find(output => output.name === name);
  const kind = tried.type.replace("image/", "").toUpperCase();
  showPair(entry, {name: "trial", href: tried.href, size: tried.size, bytes: tried.bytes});
  const use = element("button", {type: "button", id: "show-setting"}, "Use these settings");
  use.addEventListener("click", () => { use.replaceWith(...setting(tried.setting)); });
  byId("trial-result").replaceChildren(
    element("p", {}, element("strong", {id: "trial-bytes"}, `${kind}, ${inPixels(tried.size)}, ${inBytes(tried.bytes)}`),
      `: ${savingInWords(before.bytes, tried.bytes, `the present ${name}`)}, ${savingInWords(entry.bytes, tried.bytes, "the original")}.`),
    use);
}

/** How to have it so: lines to copy, and the run done again. */
function setting(text) {
  const again = element("button", {type: "button", id: "use", disabled: !mayUse}, "Make all files again by this");
  const said = element("p", {role: "status", id: "use-said"});
  again.addEventListener("click", async () => {
    again.disabled = true;
    try {
      await ask("use", {setting: text});
      said.textContent = "All files are made again. It lasts as long as this run: keep the line for the next one.";
    } catch (error) {
      said.textContent = error.message;
      again.disabled = !mayUse;
    }
  });
  return [
    element("p", {}, "For a shell, and any other run of the pipeline:"),
    element("pre", {tabindex: "0", id: "setting", "aria-label": "The setting"}, `export RENDITIONS="${text}"`),
    element("p", {}, "For the stack, when you deploy:"),
    element("pre", {tabindex: "0", "aria-label": "The parameter"}, `-p "Renditions=${text}"`),
    again, said];
}
