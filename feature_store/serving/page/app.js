// What is shown at which address, and what keys and the search do.

import { ask, keep, key } from "./api.js";
import { h } from "./dom.js";
import { found, start } from "./overview.js";
import { page } from "./page.js";
import { Shop, refresh } from "./parts.js";
import { made } from "./routes.js";
import { href, indexOf, search } from "./search.js";

const MOST = 40;
const LOOK_MS = 15000;
const main = document.getElementById("main");
const query = document.getElementById("query");
const said = document.getElementById("said");
let shop = null;
let index = [];
let shown = 0;
let looking = 0;

async function begin() {
  try {
    shop = new Shop(await ask("catalog"));
  } catch (problem) {
    failed(problem);
    return;
  }
  index = indexOf(shop);
  document.getElementById("env").textContent = shop.env;
  await show({ focus: false });
  clearInterval(looking);
  looking = setInterval(look, LOOK_MS);
  await look();
}

/** Ask how fresh everything is, while somebody looks. */
async function look() {
  if (document.hidden || !shop) return;
  try {
    shop.freshness = await ask("catalog", "freshness");
    refresh(shop);
  } catch (problem) {
    if (problem.status === 401) failed(problem); // else what was said last stands until the server answers again
  }
}

/** Show what the address names. */
async function show({ focus = true } = {}) {
  const [group, name, part] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const turn = ++shown;
  if (group === "search") {
    if (document.activeElement !== query) query.value = name ?? "";
    put(hits(name ?? ""), { focus: false });
    return;
  }
  query.value = "";
  try {
    const there = await made(shop, group, name, part);
    if (turn === shown) put(there, { focus });
  } catch (problem) {
    failed(problem);
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function hits(text) {
  if (!text.trim()) return start(shop);
  const entries = search(index, text);
  said.textContent = `${entries.length} results`;
  return found(text, entries, MOST);
}

function put({ title, node }, { focus }) {
  main.replaceChildren(node);
  document.title = title === "What there is" ? "Feature catalog" : `${title} · Feature catalog`;
  if (focus) {
    scrollTo(0, 0);
    node.querySelector("h1").focus({ preventScroll: true });
  }
}

function failed(problem) {
  if (problem.status === 401 || problem.status === 403) return askForKey(problem);
  const again = h("button", { type: "button", click: () => location.reload() }, "Try again");
  put(page("The catalog cannot be shown", [h("p", {}, problem.message), h("p", {}, again)]), { focus: true });
}

function askForKey(problem) {
  const refused = key() !== null;
  shop = null;
  clearInterval(looking);
  keep(null);
  const input = h("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const form = h(
    "form",
    {
      class: "key",
      submit: (event) => {
        event.preventDefault();
        keep(input.value.trim());
        begin();
      },
    },
    h("label", { for: "key" }, "API key"),
    input,
    h("button", { type: "submit" }, "Open the catalog"),
  );
  const why = refused
    ? `That key was refused: ${problem.message}`
    : "You see what your key may read. It stays in this tab and is forgotten when you close it.";
  put(page("A key is needed", [h("p", { role: refused ? "alert" : null }, why), form]), { focus: false });
  input.focus();
}

function typed() {
  if (!shop) return;
  const text = query.value;
  const address = text.trim() ? href("search", text) : "#/";
  if (location.hash.startsWith("#/search/")) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  shown++;
  put(hits(text), { focus: false });
}

function pressed(event) {
  const typing = event.target.matches("input, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    query.focus();
    query.select();
  } else if (event.key === "Escape" && shop) {
    query.value = "";
    query.focus();
    typed();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    step(event);
  }
}

/** From the search through what was found and back. */
function step(event) {
  const links = [...main.querySelectorAll("a.hit")];
  const place = links.indexOf(document.activeElement);
  if (!links.length || (place < 0 && document.activeElement !== query)) return;
  const next = place + (event.key === "ArrowDown" ? 1 : -1);
  if (place < 0 && next < 0) return;
  event.preventDefault();
  (next < 0 ? query : (links[next] ?? links[place])).focus();
}

document.addEventListener("keydown", pressed);
query.addEventListener("input", typed);
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  main.querySelector("a.hit")?.click();
});
addEventListener("hashchange", () => shop && show());
addEventListener("popstate", () => shop && location.hash.startsWith("#/search/") && show());
begin();
