// One view.

import { facts, h, link, section } from "./dom.js";
import { code, listed, page, path, personal, viewFacts } from "./page.js";
import { freshBadge, history, id, to } from "./parts.js";
import { rowOf } from "./rows.js";
import { href } from "./search.js";
import { ofFeatures, shown as shownCode } from "./snippets.js";

/** One view. */
export function view(shop, one, detail) {
  const others = shop.versionsOf("views", one.name).filter((each) => each !== one);
  return page(
    one.name,
    [
      one.description ? h("p", { class: "lead" }, one.description) : null,
      section(
        "Definition",
        facts([
          ["Version", String(one.version)],
          ["Only events with", one.where ? code(one.where) : null],
          ...viewFacts(shop, one),
          [
            "Other versions",
            others.length
              ? h(
                  "span",
                  { class: "listed" },
                  others.map((each) => to("views", each, id(each))),
                )
              : null,
          ],
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
