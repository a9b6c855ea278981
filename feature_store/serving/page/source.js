// One source.

import { facts, h, section } from "./dom.js";
import { bare, code, lead, listed, page, personal } from "./page.js";
import { dagster, history, id, lineage, owner, to } from "./parts.js";
import { newest } from "./search.js";

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
      lead(one.description),
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
