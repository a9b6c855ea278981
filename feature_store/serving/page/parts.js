// What several pages have in common.

import { badge, h, link, section, table } from "./dom.js";
import { href, newest } from "./search.js";
import { length, momentOf, shown } from "./text.js";

const STATES = {
  fresh: ["good", "fresh"],
  stale: ["bad", "stale"],
  catching_up: ["warn", "being computed"],
  unknown: ["warn", "not known"],
};

/** What pages are made from: the catalog, how fresh it is, and what there is under a name. */
export class Shop {
  constructor(catalog) {
    Object.assign(this, catalog);
    this.freshness = {};
  }

  /** A view or service by `name` (its newest version) or `name@version`. */
  find(group, name) {
    const [bare, version] = name.split("@");
    const found = this[group].filter((each) => each.name === bare && (!version || String(each.version) === version));
    return newest(found)[0];
  }

  versionsOf(group, name) {
    return this[group].filter((each) => each.name === name).sort((a, b) => b.version - a.version);
  }

  entity(name) {
    return this.entities.find((each) => each.name === name);
  }

  source(name) {
    return this.sources.find((each) => each.name === name);
  }

  /** The services, each with the names under which it serves a feature of a view. */
  readers(view, feature) {
    const wanted = `${view.name}@${view.version}:${feature}`;
    return this.services
      .map((service) => [service, service.features.filter((each) => each.reads.includes(wanted))])
      .filter(([, features]) => features.length);
  }

  readersOf(view) {
    const start = `${view.name}@${view.version}:`;
    return this.services.filter(({ features }) =>
      features.some(({ reads }) => reads.some((each) => each.startsWith(start))),
    );
  }
}

export function id(thing) {
  return thing.version === undefined ? thing.name : `${thing.name}@${thing.version}`;
}

/** A link to a thing; to its version, if there are others. */
export function to(group, thing, text = thing.name) {
  return link(href(group, thing.version === undefined ? thing.name : id(thing)), text);
}

export function owner(name) {
  return name && /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(name)
    ? h("a", { href: `mailto:${encodeURIComponent(name)}` }, name)
    : name;
}

/** Where a thing is among Dagster's assets. */
export function dagster(shop, thing) {
  const base = shop.dagster_url;
  if (!base || !thing.assets.length || (isLocal(new URL(base).hostname) && !isLocal(location.hostname))) return null;
  const listed = thing.assets.map((path) => {
    const way = [shop.env, ...path].map(encodeURIComponent).join("/");
    return h("a", { href: `${base}/assets/${way}`, rel: "noreferrer", target: "_blank" }, path.join("/"));
  });
  return h("span", { class: "listed" }, listed);
}

function isLocal(host) {
  return host === "localhost" || host === "[::1]" || host.startsWith("127.");
}

/** How fresh a view is now, as a badge that is kept true while the page is open. */
export function freshBadge(shop, view) {
  const element = h("span", { "data-fresh": id(view) });
  tell(element, shop.freshness[id(view)], view);
  return element;
}

/** Tell it again wherever it is shown. */
export function refresh(shop) {
  for (const element of document.querySelectorAll("[data-fresh]")) {
    const view = shop.find("views", element.dataset.fresh);
    if (view) tell(element, shop.freshness[element.dataset.fresh], view);
  }
}

function tell(element, found, view) {
  if (view.online === null) return element.replaceChildren(badge("training only"));
  if (!found) return element.replaceChildren(badge("…"));
  const [kind, word] = STATES[found.state] ?? ["", found.state];
  const age = found.age_s === null || found.age_s === undefined ? "" : `, ${length(found.age_s)} behind`;
  return element.replaceChildren(badge(`${word}${age}`, kind));
}

/** The way of data: each step a list of links. */
export function lineage(steps) {
  const told = steps.filter(([, links]) => links.length);
  const drawn = told.map(([title, links]) =>
    h(
      "li",
      {},
      h("span", {}, title),
      h(
        "ul",
        {},
        links.map((each) => h("li", {}, each)),
      ),
    ),
  );
  return section("Lineage", h("ol", { class: "lineage" }, drawn));
}

/** What has become of a declaration; `of` keeps the changes of one feature, and those of the whole. */
export function history(versions, of) {
  const told = versions
    .map((version) => ({ ...version, changes: version.changes.filter((each) => !of || !each.of || each.of === of) }))
    .filter((version, place) => version.changes.length || place === versions.length - 1 || !of);
  const items = told.map((version) => {
    const who = version.applied_by ? ` by ${version.applied_by}` : "";
    return h(
      "li",
      {},
      h("p", {}, h("strong", {}, version.id), ` ${momentOf(version.applied_us)}${who}`),
      version.changes.length ? diff(version.changes) : h("p", { class: "note" }, "as it was first applied"),
    );
  });
  return section(
    "Versions",
    items.length ? h("ol", { class: "history" }, items) : h("p", { class: "note" }, "Nothing is on record."),
  );
}

function diff(changes) {
  const cell = (name, value) => h(name, {}, shown(value));
  const rows = changes.map((each) => {
    const what = [each.of, each.field.replaceAll("_", " ")].filter(Boolean).join(": ");
    if (each.field) return [what, cell("del", each.before), cell("ins", each.after)];
    return [what, each.before ? h("del", {}, "was there") : "", each.after ? h("ins", {}, "is new") : ""];
  });
  return table(["what", "before", "after"], rows, "What has changed");
}
