// One view.

import { facts, link, section } from "./dom.js";
import { code, lead, listed, otherVersions, page, path, personal, viewFacts } from "./page.js";
import { freshBadge, history, id } from "./parts.js";
import { rowOf } from "./rows.js";
import { href } from "./search.js";
import { ofFeatures, shown as shownCode } from "./snippets.js";

/** One view. */
export function view(shop, one, detail) {
  return page(
    one.name,
    [
      lead(one.description),
      section(
        "Definition",
        facts([
          ["Version", String(one.version)],
          ["Only events with", one.where ? code(one.where) : null],
          ...viewFacts(shop, one),
          otherVersions(shop, "views", one),
        ]),
      ),
      listed(
        "Features",
        ["feature", "value", "window", "type", "description"],
        one.features.map((each) => [
          link(href("features", `${id(one)}:${each.name}`), each.name),
          code(`${each.aggregate}(${each.column ?? ""})`),
          each.window ?? "every event",
          each.dtype,
          each.description,
        ]),
      ),
      path(shop, one, null, shop.readersOf(one)),
      section(
        "Use it",
        shownCode(
          ofFeatures(
            shop.env,
            one.features.slice(0, 3).map((each) => `${one.name}:${each.name}`),
            rowOf(shop, one),
          ),
        ),
      ),
      history(detail.versions),
    ],
    { kind: "view", badges: [freshBadge(shop, one), personal(one)] },
  );
}
