// What there is, what was found, and what there is not.

import { h, link } from "./dom.js";
import { bare, code, listed, page } from "./page.js";
import { freshBadge, owner, to } from "./parts.js";
import { href, newest } from "./search.js";
import { counted } from "./text.js";

/** What the start shows: all there is, by kind. */
export function start(shop) {
  const views = newest(shop.views);
  const services = newest(shop.services);
  const features = views.reduce((sum, view) => sum + view.features.length, 0);
  if (!views.length && !services.length && !shop.sources.length) {
    return page("Nothing to see yet", [
      h(
        "p",
        {},
        "Nothing is published, or nothing that your key may see. ",
        code("feature-store apply"),
        " publishes what is declared.",
      ),
    ]);
  }
  return page("What there is", [
    h(
      "p",
      { class: "lead" },
      `${counted(features, "feature")} in ${counted(views.length, "view")}, ${counted(services.length, "service")}, ${counted(shop.sources.length, "source")}.`,
    ),
    listed(
      "Services",
      ["service", "features", "owner", "description"],
      services.map((each) => [
        to("services", bare(each)),
        String(each.features.length),
        owner(each.owner),
        each.description,
      ]),
    ),
    listed(
      "Views",
      ["view", "entity", "features", "freshness", "description"],
      views.map((each) => [
        to("views", bare(each)),
        link(href("entities", each.entity), each.entity),
        String(each.features.length),
        freshBadge(shop, each),
        each.description,
      ]),
    ),
    listed(
      "Sources",
      ["source", "owner", "description"],
      shop.sources.map((each) => [to("sources", each), owner(each.owner), each.description]),
    ),
    listed(
      "Entities",
      ["entity", "join keys", "description"],
      shop.entities.map((each) => [to("entities", each), each.join_keys.join(", "), each.description]),
    ),
  ]);
}

/** What is found. */
export function found(text, entries, most) {
  const items = entries
    .slice(0, most)
    .map((entry) =>
      h(
        "li",
        {},
        h(
          "a",
          { href: entry.href, class: "hit" },
          h("span", { class: `kind ${entry.kind}` }, entry.kind),
          h("strong", {}, entry.title),
          h("span", { class: "place" }, entry.place),
          h("span", { class: "said" }, entry.description),
        ),
      ),
    );
  const more =
    entries.length > most
      ? h(
          "p",
          { class: "note" },
          `The first ${most} of ${entries.length.toLocaleString("en")}; another word narrows it down.`,
        )
      : null;
  const none = items.length
    ? null
    : h(
        "p",
        {},
        "Nothing has all of these words. Names, owners, descriptions, tags, entities and sources are searched.",
      );
  return page(`${counted(entries.length, "result")} for “${text}”`, [none, h("ul", { class: "hits" }, items), more]);
}

/** A page that there is not, or that somebody may not see. */
export function nothing(what) {
  return page("There is no such page", [h("p", {}, what), h("p", {}, link("#/", "What there is"))]);
}
