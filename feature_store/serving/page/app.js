// What is shown at which address, and what keys and the search do.

import { Refused, ask, keep, key } from "./api.js";
import { h } from "./dom.js";
import * as pages from "./pages.js";
import { Shop, refresh } from "./parts.js";
import { href, indexOf, search } from "./search.js";

const MOST = 50;
const LOOK_MS = 5000;
const main = document.getElementById("main");
const query = document.getElementById("query");
const said = document.getElementById("said");
let shop = null;
let index = [];
let shown = 0;

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
  await look();
  setInterval(look, LOOK_MS);
}

/** Ask how fresh everything is, while somebody looks. */
async function look() {
  if (document.hidden) return;
  try {
    shop.freshness = await ask("catalog", "freshness");
    refresh(shop);
  } catch {
    // What was said last stands until the server answers again.
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
  const page = await made(group, name, part);
  if (turn === shown) put(page, { focus });
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function made(group, name = "", part = undefined) {
  if (!group) return pages.start(shop);
  const missing = pages.nothing(`There is no ${group} '${name}', or your key may not see it.`);
  if (group === "entities") {
    const entity = shop.entity(name);
    return entity ? pages.entity(shop, entity) : missing;
  }
  if (group === "sources") {
    const source = shop.source(name);
    return source ? pages.source(shop, source, await detail("sources", name)) : missing;
  }
  if (group === "services") {
    const service = shop.find("services", name);
    if (!service) return missing;
    const one = part === undefined ? null : service.features.find((each) => each.name === part);
    if (part !== undefined) return one ? pages.computed(shop, service, one) : missing;
    return pages.service(shop, service, await detail("services", service.name));
  }
  const [viewName, featureName] = name.split(":");
  const view = group === "views" || group === "features" ? shop.find("views", viewName) : null;
  if (!view) return missing;
  const history = await detail("views", view.name);
  if (group === "views") return pages.view(shop, view, history);
  const feature = view.features.find((each) => each.name === featureName);
  return feature ? pages.feature(shop, view, feature, history) : missing;
}

async function detail(group, name) {
  try {
    return await ask("catalog", group, name);
  } catch (problem) {
    if (problem instanceof Refused && problem.status === 401) throw problem;
    return { versions: [], statistics: {} };
  }
}

function hits(text) {
  if (!text.trim()) return pages.start(shop);
  const entries = search(index, text);
  said.textContent = `${entries.length} results`;
  return pages.found(text, entries, MOST);
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
  put(pages.page("The catalog cannot be shown", [h("p", {}, problem.message), h("p", {}, again)]), { focus: true });
}

function askForKey(problem) {
  const refused = key() !== null;
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
  const why = refused ? `That key was refused: ${problem.message}` : "You see what your key may read. It stays in this tab and is forgotten when you close it.";
  put(pages.page("A key is needed", [h("p", { role: refused ? "alert" : null }, why), form]), { focus: false });
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
