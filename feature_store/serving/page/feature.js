// One feature: of a view, or computed by a service.

import { distribution } from "./chart.js";
import { facts, h, link, section, table } from "./dom.js";
import { code, lead, page, path, personal, sourceLinks, viewFacts, viewsAmong } from "./page.js";
import { freshBadge, history, id, lineage, owner, to } from "./parts.js";
import { asked, rowFor, rowOf } from "./rows.js";
import { href } from "./search.js";
import { ofFeatures, ofService, shown as shownCode } from "./snippets.js";
import { percent, shown } from "./text.js";

const COMPUTED = {
  ratio: "a ratio, computed when it is read",
  encoding: "on demand: an encoding of the catalogue",
  on_demand: "on demand: a function of the request and of features",
};

/** One feature of a view. */
export function feature(shop, view, one, detail) {
  const name = `${view.name}:${one.name}`;
  const statistics = detail.statistics?.[id(view)];
  const values = statistics?.features.find((each) => each.name === one.name);
  const service = shop.readers(view, one.name);
  return page(
    one.name,
    [
      lead(one.description || view.description),
      section(
        "Definition",
        facts([
          ["Value", code(`${one.aggregate}(${one.column ?? ""})`)],
          ["Window", windowOf(one)],
          ["At most too long by", one.window === null ? null : percent(one.window_error)],
          ["Only events with", view.where ? code(view.where) : null],
          ["Without any event", shown(one.empty)],
          ["Type", one.dtype],
          ["At most", one.cap === null ? null : `${one.cap} values`],
          ...viewFacts(shop, view),
        ]),
      ),
      path(
        shop,
        view,
        one.name,
        service.map(([each]) => each),
      ),
      section(
        "Distribution",
        view.personal
          ? h("p", { class: "note" }, "Personal data: values are not shown here.")
          : values
            ? distribution(values, statistics)
            : h(
                "p",
                { class: "note" },
                "Not computed yet: ",
                code("feature-store statistics"),
                " or Dagster's asset catalog/statistics does it.",
              ),
      ),
      section("Use it", shownCode(ofFeatures(shop.env, [name], rowOf(shop, view)))),
      section(
        "Who uses it",
        service.length
          ? table(
              ["service", "as", "owner"],
              service.map(([each, as]) => [
                to("services", each, id(each)),
                as.map((item) => item.name).join(", "),
                owner(each.owner),
              ]),
              "Services that use it",
            )
          : h("p", { class: "note" }, "No service does, as far as you can see."),
      ),
      history(detail.versions, one.name),
    ],
    {
      kind: "feature",
      over: [to("views", view, id(view))],
      badges: [freshBadge(shop, view), personal(view)],
      title: name,
    },
  );
}

/** A ratio or an on-demand feature of a service. */
export function computed(shop, of, one) {
  const stored = one.reads.map((name) => link(href("features", name), name));
  return page(
    one.name,
    [
      lead(one.description),
      section(
        "Definition",
        facts([
          ["Kind", COMPUTED[one.kind]],
          ["Type", one.dtype],
          ["Default", shown(one.default)],
          ...Object.entries(one.inputs).map(([name, text]) => [name, code(text)]),
        ]),
        one.code ? h("pre", { tabindex: "0" }, h("code", {}, one.code)) : null,
      ),
      lineage([
        ["Sources", sourceLinks(viewsAmong(shop, one.reads))],
        ["Features", stored],
        ["This", [h("strong", {}, one.name)]],
        ["Service", [to("services", of, id(of))]],
      ]),
      section("Use it", shownCode(ofService(shop.env, of, rowFor(shop, of), asked(of)))),
    ],
    { kind: "feature", over: [to("services", of, id(of))] },
  );
}

function windowOf(one) {
  return one.window === null ? "every event before the time asked" : `${one.window}, its tail moves by ${one.hop}`;
}
