
// A run that goes on: the page asks for what has changed, once a second while somebody looks at it.
const EVERY_MS = 1000;
let revision = 0;
let renditions = []; // what is declared, with the present settings
let mayUse = false;

async function ask(path, body) {
  const sent = body === undefined ? {} : {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
  const reply = await fetch(path, sent);
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error);
  return said;
}

async function refresh() {
  if (document.hidden) return;
  let news;
  try {
    news = await ask(`news?since=${revision}`);
  } catch {
    byId("progress").textContent = "The run has ended: index.html in its output folder has the contact sheet.";
    return;
  }
  revision = news.revision;
  renditions = news.renditions;
  mayUse = news.may_use;
  for (const entry of news.changed) entries.set(entry.key, entry);
  for (const key of news.removed) entries.delete(key);
  const left = news.phase === "processing files" && news.wanted > entries.size ? `, ${news.wanted - entries.size} left` : "";
  const progress = `${news.phase}${left}`;
  if (byId("progress").textContent !== progress) byId("progress").textContent = progress;
  if (byId("use")) byId("use").disabled = !mayUse;
  if (!news.changed.length && !news.removed.length) return;
  showTotals();
  showFormats();
  update();
  if (view.open && news.changed.some(entry => entry.key === viewed)) showView(viewed);
  if (view.open && news.removed.includes(viewed)) view.close();
}

function showTotals() {
  const all = [...entries.values()], sum = values => values.reduce((total, value) => total + value, 0);
  for (const state of ["done", "failed", "skipped"]) {
    byId(state).textContent = all.filter(entry => entry.state === state).length;
  }
  byId("failed").parentElement.classList.toggle("bad", all.some(entry => entry.state === "failed"));
  byId("bytes-in").textContent = inBytes(sum(all.map(entry => entry.bytes ?? 0)));
  byId("bytes-out").textContent = inBytes(sum(all.flatMap(entry => entry.outputs.map(output => output.bytes))));
}

async function follow() {
  await refresh();
  setTimeout(follow, EVERY_MS);
}
document.addEventListener("visibilitychange", refresh);
follow();
