// What all pages are made of: a title, and parts that several of them have.

import { badge, facts, h, link, section, table } from "./dom.js";
import { dagster, freshBadge, id, lineage, owner, to } from "./parts.js";
import { href } from "./search.js";

/** A title with what stands under it. */
export function page(heading, children, { kind = "", over = [], badges = [], title = heading } = {}) {
  const way = h(
    "p",
    { class: "over" },
    kind ? h("span", { class: `kind ${kind}` }, kind) : null,
    over.length ? [" of ", over] : null,
  );
  const top = h(
    "div",
    { class: "title" },
    kind ? way : null,
    h("h1", { tabindex: "-1" }, heading),
    h("span", { class: "badges" }, badges),
  );
  return { title, node: h("article", {}, top, children.flat().filter(Boolean)) };
}

/** What a thing is, in the words of its owner. */
export function lead(description) {
  return description ? h("p", { class: "lead" }, description) : null;
}

/** The fact that names a thing's other versions. */
export function otherVersions(shop, group, one) {
  const others = shop.versionsOf(group, one.name).filter((each) => each !== one);
  const links = others.map((each) => to(group, each, id(each)));
  return ["Other versions", links.length ? h("span", { class: "listed" }, links) : null];
}

export function listed(title, columns, rows) {
  return rows.length ? section(title, table(columns, rows, title)) : null;
}

export function code(text) {
  return h("code", {}, text);
}

export function bare(thing) {
  return { name: thing.name };
}

export function personal(thing) {
  return thing.personal ? badge("personal data", "warn") : null;
}

export function viewFacts(shop, view) {
  const entity = shop.entity(view.entity);
  return [
    [
      "Entity",
      [
        link(href("entities", view.entity), view.entity),
        entity?.join_keys.length ? ` by ${entity.join_keys.join(", ")}` : "",
      ],
    ],
    ["Source", link(href("sources", view.source), view.source)],
    ["Owner", owner(view.owner)],
    [
      "Online",
      { stream: "kept fresh by the stream", batch: `published every ${view.every}` }[view.online] ??
        "no: for training only",
    ],
    ["Freshness", view.online ? ["at most ", view.sla, " old, now ", freshBadge(shop, view)] : null],
    [
      "Late events",
      view.lateness
        ? `${view.late_events}, after ${view.lateness}`
        : { correct: "correct the value", ignore: "are ignored", recompute: "have the days computed again" }[
            view.late_events
          ],
    ],
    ["Scores its own event", view.score_own_event ? "yes: a read at the time of its newest event is exact" : null],
    [
      "Tags",
      Object.keys(view.tags).length
        ? h(
            "span",
            { class: "listed" },
            Object.entries(view.tags).map(([name, value]) => badge(`${name}: ${value}`)),
          )
        : null,
    ],
    ["In Dagster", dagster(shop, view)],
  ];
}

export function path(shop, view, name, services) {
  const here = name === null ? [] : [["Feature", [h("strong", {}, name)]]];
  return lineage([
    ["Source", [link(href("sources", view.source), view.source)]],
    ["View", [name === null ? h("strong", {}, id(view)) : to("views", view, id(view))]],
    ...here,
    ["Services", services.map((each) => to("services", each, id(each)))],
  ]);
}

export function viewsOf(shop, service) {
  return viewsAmong(
    shop,
    service.features.flatMap((each) => each.reads),
  );
}

export function viewsAmong(shop, reads) {
  const ids = new Set(reads.map((name) => name.split(":")[0]));
  return shop.views.filter((each) => ids.has(id(each)));
}

export function sourceLinks(views) {
  return [...new Set(views.map((each) => each.source))].map((name) => link(href("sources", name), name));
}
