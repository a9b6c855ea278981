// One entity.

import { facts, link, section } from "./dom.js";
import { bare, lead, listed, page } from "./page.js";
import { freshBadge, to } from "./parts.js";
import { href, newest } from "./search.js";

/** One entity. */
export function entity(shop, one) {
  const views = newest(shop.views).filter((each) => each.entity === one.name);
  return page(
    one.name,
    [
      lead(one.description),
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
