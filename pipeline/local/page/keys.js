
// The keyboard. Nothing is taken from a field that a person types in.
const typing = target => target.closest("input, select, textarea") !== null;

function columns(buttons) {
  const top = buttons[0].getBoundingClientRect().top;
  const found = buttons.findIndex(button => button.getBoundingClientRect().top > top + 1);
  return found < 0 ? buttons.length : found;
}

function move(key) {
  const buttons = cards();
  if (!buttons.length) return;
  const at = buttons.findIndex(button => button.dataset.key === current);
  if (!list.contains(document.activeElement)) return choose(buttons[Math.max(0, at)], true);
  const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(buttons), ArrowDown: columns(buttons)};
  const to = page * PAGE + at + steps[key];
  if (to < 0 || to >= shown.length) return;
  current = shown[to].key;
  if (Math.floor(to / PAGE) === page) choose(buttons[to - page * PAGE], true);
  else showPage(Math.floor(to / PAGE));
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (view.open) {
    if (!typing(event.target) && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      step(event.key === "ArrowLeft" ? -1 : 1);
      event.preventDefault();
    }
    return;
  }
  const search = byId("search");
  if (event.target === search && (event.key === "Escape" || event.key === "ArrowDown" || event.key === "Enter")) {
    if (event.key === "Escape") { search.value = ""; update(); }
    move("ArrowRight");
  } else if (typing(event.target)) {
    return;
  } else if (event.key === "/") {
    search.focus();
    search.select();
  } else if (event.key === "?") {
    byId("keys").open = !byId("keys").open;
  } else if (event.key === "n" || event.key === "p") {
    turn(event.key === "n" ? 1 : -1);
    move("ArrowRight");
  } else if (event.key.startsWith("Arrow") && (list.contains(document.activeElement) || event.key === "ArrowRight")) {
    move(event.key);
  } else {
    return;
  }
  event.preventDefault();
});
