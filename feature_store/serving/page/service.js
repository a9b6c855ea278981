// One service.

import { facts, h, link, section } from "./dom.js";
import { code, lead, listed, otherVersions, page, sourceLinks, viewsOf } from "./page.js";
import { dagster, history, id, lineage, owner, to } from "./parts.js";
import { asked, rowFor } from "./rows.js";
import { href } from "./search.js";
import { ofService, shown as shownCode } from "./snippets.js";
import { percent, shown } from "./text.js";

/** One service, or one feature that it computes. */
export function service(shop, one, detail) {
  const served = Object.values(shop.served).includes(id(one))
    ? "under the bare name"
    : Object.values(shop.beside).includes(id(one))
      ? "to a share of the entities"
      : "by its version alone";
  return page(
    one.name,
    [
      lead(one.description),
      section(
        "Definition",
        facts([
          ["Version", String(one.version)],
          ["Served", served],
          ["Owner", owner(one.owner)],
          ["Asked with", one.keys.join(", ")],
          [
            "And with",
            Object.entries(one.requests)
              .map(([name, kind]) => `${name}: ${kind}`)
              .join(", "),
          ],
          ["A stale value", policy(one.on_stale)],
          ["A value that knows too much", policy(one.on_ahead)],
          ["Vectors logged", percent(one.log_rate)],
          ["Personal data of", one.personal.join(", ")],
          otherVersions(shop, "services", one),
          ["In Dagster", dagster(shop, one)],
        ]),
      ),
      listed(
        "Features, in their order",
        ["feature", "made of", "type", "default"],
        one.features.map((each) => [
          servedLink(shop, one, each),
          each.kind === "stored" ? storedAs(shop, each) : Object.values(each.inputs).join(", "),
          each.dtype,
          shown(each.default),
        ]),
      ),
      lineage([
        ["Sources", sourceLinks(viewsOf(shop, one))],
        ["Views", viewsOf(shop, one).map((each) => to("views", each, id(each)))],
        ["Service", [h("strong", {}, id(one))]],
      ]),
      section("Use it", shownCode(ofService(shop.env, one, rowFor(shop, one), asked(one)))),
      history(detail.versions),
    ],
    { kind: "service" },
  );
}

function policy(text) {
  return { serve: "is served", default: "gives way to the default", fail: "makes the read fail" }[text] ?? text;
}

function storedAs(shop, each) {
  const [view, name] = each.reads[0].split(":");
  const one = shop.find("views", view)?.features.find((found) => found.name === name);
  const columns = Object.entries(each.columns).map(([key, column]) => `${key} = ${column}`);
  const told = one ? [code(`${one.aggregate}(${one.column ?? ""})`), ` ${one.window ?? ""}`] : [];
  return [...told, columns.length ? ` for ${columns.join(", ")}` : null];
}

function servedLink(shop, service, each) {
  return each.kind === "stored"
    ? link(href("features", each.reads[0]), each.name)
    : link(href("services", id(service), each.name), each.name);
}
