// One source, one entity: where features come from, and what they are about.

import { facts, h, link, section } from "./dom.js";
import { bare, code, listed, page, personal } from "./page.js";
import { dagster, freshBadge, history, id, lineage, owner, to } from "./parts.js";
import { href, newest } from "./search.js";

/** One source. */
export function source(shop, one, detail) {
  const views = newest(shop.views).filter((each) => each.source === one.name);
  const roles = (name) =>
    [name === one.event_time ? "event time" : "", one.event_id.includes(name) ? "event id" : ""]
      .filter(Boolean)
      .join(", ");
  const services = [...new Set(views.flatMap((each) => shop.readersOf(each)))];
  return page(
    one.name,
    [
      one.description ? h("p", { class: "lead" }, one.description) : null,
      section(
        "Definition",
        facts([
          ["Owner", owner(one.owner)],
          ["History", one.history],
          ["Present", one.log],
          ["In Dagster", dagster(shop, one)],
        ]),
      ),
      listed(
        "Columns",
        ["column", "type", "may be null", "", "description"],
        one.columns.map((each) => [
          code(each.name),
          each.dtype,
          each.nullable ? "yes" : "",
          roles(each.name),
          each.description,
        ]),
      ),
      lineage([
        ["Source", [h("strong", {}, one.name)]],
        ["Views", views.map((each) => to("views", bare(each)))],
        ["Services", services.map((each) => to("services", each, id(each)))],
      ]),
      history(detail.versions),
    ],
    { kind: "source", badges: [personal(one)] },
  );
}

/** One entity. */
export function entity(shop, one) {
  const views = newest(shop.views).filter((each) => each.entity === one.name);
  return page(
    one.name,
    [
      one.description ? h("p", { class: "lead" }, one.description) : null,
      section("Definition", facts([["Join keys", one.join_keys.join(", ")]])),
      listed(
        "Views",
        ["view", "features", "source", "freshness", "description"],
        views.map((each) => [
          to("views", bare(each)),
          String(each.features.length),
          link(href("sources", each.source), each.source),
          freshBadge(shop, each),
          each.description,
        ]),
      ),
      listed(
        "Features",
        ["feature", "window", "description"],
        views.flatMap((each) =>
          each.features.map((item) => [
            link(href("features", `${each.name}:${item.name}`), `${each.name}:${item.name}`),
            item.window ?? "every event",
            item.description,
          ]),
        ),
      ),
    ],
    { kind: "entity" },
  );
}
