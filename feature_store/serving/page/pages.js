// The pages: each a title and what stands under it.

import { distribution } from "./chart.js";
import { badge, facts, h, link, section, table } from "./dom.js";
import { dagster, freshBadge, history, id, lineage, owner, to } from "./parts.js";
import { href, newest } from "./search.js";
import { ofFeatures, ofService, sample, shown as shownCode } from "./snippets.js";
import { counted, percent, shown } from "./text.js";

const COMPUTED = {
  ratio: "a ratio, computed when it is read",
  encoding: "on demand: an encoding of the catalogue",
  on_demand: "on demand: a function of the request and of features",
};

/** What the start shows: all there is, by kind. */
export function start(shop) {
  const views = newest(shop.views);
  const services = newest(shop.services);
  const features = views.reduce((sum, view) => sum + view.features.length, 0);
  if (!views.length && !services.length && !shop.sources.length) {
    return page("Nothing to see yet", [h("p", {}, "Nothing is published, or nothing that your key may see. ", code("feature-store apply"), " publishes what is declared.")]);
  }
  return page("What there is", [
    h("p", { class: "lead" }, `${counted(features, "feature")} in ${counted(views.length, "view")}, ${counted(services.length, "service")}, ${counted(shop.sources.length, "source")}.`),
    listed("Services", ["service", "features", "owner", "description"], services.map((each) => [to("services", bare(each)), String(each.features.length), owner(each.owner), each.description])),
    listed("Views", ["view", "entity", "features", "freshness", "description"], views.map((each) => [to("views", bare(each)), link(href("entities", each.entity), each.entity), String(each.features.length), freshBadge(shop, each), each.description])),
    listed("Sources", ["source", "owner", "description"], shop.sources.map((each) => [to("sources", each), owner(each.owner), each.description])),
    listed("Entities", ["entity", "join keys", "description"], shop.entities.map((each) => [to("entities", each), each.join_keys.join(", "), each.description])),
  ]);
}

/** What is found. */
export function found(text, entries, most) {
  const items = entries.slice(0, most).map((entry) =>
    h(
      "li",
      {},
      h("a", { href: entry.href, class: "hit" }, h("span", { class: `kind ${entry.kind}` }, entry.kind), h("strong", {}, entry.title), h("span", { class: "place" }, entry.place), h("span", { class: "said" }, entry.description)),
    ),
  );
  const more = entries.length > most ? h("p", { class: "note" }, `The first ${most} of ${entries.length.toLocaleString("en")}; another word narrows it down.`) : null;
  const none = items.length ? null : h("p", {}, "Nothing has all of these words. Names, owners, descriptions, tags, entities and sources are searched.");
  return page(`${counted(entries.length, "result")} for “${text}”`, [none, h("ul", { class: "hits" }, items), more]);
}

/** One feature of a view. */
export function feature(shop, view, one, detail) {
  const name = `${view.name}:${one.name}`;
  const statistics = detail.statistics?.[id(view)];
  const values = statistics?.features.find((each) => each.name === one.name);
  const service = shop.readers(view, one.name);
  const described = one.description || view.description;
  return page(
    one.name,
    [
      described ? h("p", { class: "lead" }, described) : null,
      section("Definition", facts([
        ["Value", code(`${one.aggregate}(${one.column ?? ""})`)],
        ["Window", windowOf(one)],
        ["At most too long by", one.window === null ? null : percent(one.window_error)],
        ["Only events with", view.where ? code(view.where) : null],
        ["Without any event", shown(one.empty)],
        ["Type", one.dtype],
        ["At most", one.cap === null ? null : `${one.cap} values`],
        ...viewFacts(shop, view),
      ])),
      path(shop, view, one.name, service.map(([each]) => each)),
      section("Distribution", view.personal
        ? h("p", { class: "note" }, "Personal data: values are not shown here.")
        : values ? distribution(values, statistics) : h("p", { class: "note" }, "Not computed yet: ", code("feature-store statistics"), " or Dagster's asset catalog/statistics does it.")),
      section("Use it", shownCode(ofFeatures(shop.env, [name], rowOf(shop, view)))),
      section("Who uses it", service.length
        ? table(["service", "as", "owner"], service.map(([each, as]) => [to("services", each, id(each)), as.map((item) => item.name).join(", "), owner(each.owner)]), "Services that use it")
        : h("p", { class: "note" }, "No service does, as far as you can see.")),
      history(detail.versions, one.name),
    ],
    { kind: "feature", over: [to("views", view, id(view))], badges: [freshBadge(shop, view), personal(view)], title: name },
  );
}

/** One view. */
export function view(shop, one, detail) {
  const others = shop.versionsOf("views", one.name).filter((each) => each !== one);
  return page(
    one.name,
    [
      one.description ? h("p", { class: "lead" }, one.description) : null,
      section("Definition", facts([["Version", String(one.version)], ["Only events with", one.where ? code(one.where) : null], ...viewFacts(shop, one), ["Other versions", others.length ? h("span", { class: "listed" }, others.map((each) => to("views", each, id(each)))) : null]])),
      listed("Features", ["feature", "value", "window", "type", "description"], one.features.map((each) => [link(href("features", `${id(one)}:${each.name}`), each.name), code(`${each.aggregate}(${each.column ?? ""})`), each.window ?? "every event", each.dtype, each.description])),
      path(shop, one, null, shop.readersOf(one)),
      section("Use it", shownCode(ofFeatures(shop.env, one.features.slice(0, 3).map((each) => `${one.name}:${each.name}`), rowOf(shop, one)))),
      history(detail.versions),
    ],
    { kind: "view", badges: [freshBadge(shop, one), personal(one)] },
  );
}

/** One service, or one feature that it computes. */
export function service(shop, one, detail) {
  const others = shop.versionsOf("services", one.name).filter((each) => each !== one);
  const served = Object.values(shop.served).includes(id(one)) ? "under the bare name" : Object.values(shop.beside).includes(id(one)) ? "to a share of the entities" : "by its version alone";
  return page(
    one.name,
    [
      one.description ? h("p", { class: "lead" }, one.description) : null,
      section("Definition", facts([
        ["Version", String(one.version)],
        ["Served", served],
        ["Owner", owner(one.owner)],
        ["Asked with", one.keys.join(", ")],
        ["And with", Object.entries(one.requests).map(([name, kind]) => `${name}: ${kind}`).join(", ")],
        ["A stale value", policy(one.on_stale)],
        ["A value that knows too much", policy(one.on_ahead)],
        ["Vectors logged", percent(one.log_rate)],
        ["Personal data of", one.personal.join(", ")],
        ["Other versions", others.length ? h("span", { class: "listed" }, others.map((each) => to("services", each, id(each)))) : null],
        ["In Dagster", dagster(shop, one)],
      ])),
      listed("Features, in their order", ["feature", "made of", "type", "default"], one.features.map((each) => [servedLink(shop, one, each), each.kind === "stored" ? columnsOf(each) : Object.values(each.inputs).join(", "), each.dtype, shown(each.default)])),
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

/** A ratio or an on-demand feature of a service. */
export function computed(shop, of, one) {
  const stored = one.reads.map((name) => link(href("features", name), name));
  return page(
    one.name,
    [
      one.description ? h("p", { class: "lead" }, one.description) : null,
      section("Definition", facts([
        ["Kind", COMPUTED[one.kind]],
        ["Type", one.dtype],
        ["Default", shown(one.default)],
        ...Object.entries(one.inputs).map(([name, text]) => [name, code(text)]),
      ]), one.code ? h("pre", { tabindex: "0" }, h("code", {}, one.code)) : null),
      lineage([["Sources", sourceLinks(viewsAmong(shop, one.reads))], ["Features", stored], ["This", [h("strong", {}, one.name)]], ["Service", [to("services", of, id(of))]]]),
      section("Use it", shownCode(ofService(shop.env, of, rowFor(shop, of), asked(of)))),
    ],
    { kind: "feature", over: [to("services", of, id(of))] },
  );
}

/** One source. */
export function source(shop, one, detail) {
  const views = newest(shop.views).filter((each) => each.source === one.name);
  const roles = (name) => [name === one.event_time ? "event time" : "", one.event_id.includes(name) ? "event id" : ""].filter(Boolean).join(", ");
  const services = [...new Set(views.flatMap((each) => shop.readersOf(each)))];
  return page(
    one.name,
    [
      one.description ? h("p", { class: "lead" }, one.description) : null,
      section("Definition", facts([["Owner", owner(one.owner)], ["History", one.history], ["Present", one.log], ["In Dagster", dagster(shop, one)]])),
      listed("Columns", ["column", "type", "may be null", "", "description"], one.columns.map((each) => [code(each.name), each.dtype, each.nullable ? "yes" : "", roles(each.name), each.description])),
      lineage([["Source", [h("strong", {}, one.name)]], ["Views", views.map((each) => to("views", bare(each)))], ["Services", services.map((each) => to("services", each, id(each)))]]),
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
      listed("Views", ["view", "features", "source", "freshness", "description"], views.map((each) => [to("views", bare(each)), String(each.features.length), link(href("sources", each.source), each.source), freshBadge(shop, each), each.description])),
      listed("Features", ["feature", "window", "description"], views.flatMap((each) => each.features.map((item) => [link(href("features", `${each.name}:${item.name}`), `${each.name}:${item.name}`), item.window ?? "every event", item.description]))),
    ],
    { kind: "entity" },
  );
}

/** A page that there is not, or that somebody may not see. */
export function nothing(what) {
  return page("There is no such page", [h("p", {}, what), h("p", {}, link("#/", "What there is"))]);
}

/** A title with what stands under it. */
export function page(heading, children, { kind = "", over = [], badges = [], title = heading } = {}) {
  const way = h("p", { class: "over" }, kind ? h("span", { class: `kind ${kind}` }, kind) : null, over.length ? [" of ", over] : null);
  const top = h("div", { class: "title" }, kind ? way : null, h("h1", { tabindex: "-1" }, heading), h("span", { class: "badges" }, badges));
  return { title, node: h("article", {}, top, children.flat().filter(Boolean)) };
}

function viewFacts(shop, view) {
  const entity = shop.entity(view.entity);
  return [
    ["Entity", [link(href("entities", view.entity), view.entity), entity?.join_keys.length ? ` by ${entity.join_keys.join(", ")}` : ""]],
    ["Source", link(href("sources", view.source), view.source)],
    ["Owner", owner(view.owner)],
    ["Online", { stream: "kept fresh by the stream", batch: `published every ${view.every}` }[view.online] ?? "no: for training only"],
    ["Freshness", view.online ? ["at most ", view.sla, " old, now ", freshBadge(shop, view)] : null],
    ["Late events", view.lateness ? `${view.late_events}, after ${view.lateness}` : { correct: "correct the value", ignore: "are ignored", recompute: "have the days computed again" }[view.late_events]],
    ["Scores its own event", view.score_own_event ? "yes: a read at the time of its newest event is exact" : null],
    ["Tags", Object.keys(view.tags).length ? h("span", { class: "listed" }, Object.entries(view.tags).map(([name, value]) => badge(`${name}: ${value}`))) : null],
    ["In Dagster", dagster(shop, view)],
  ];
}

function path(shop, view, name, services) {
  const here = name === null ? [] : [["Feature", [h("strong", {}, name)]]];
  return lineage([
    ["Source", [link(href("sources", view.source), view.source)]],
    ["View", [name === null ? h("strong", {}, id(view)) : to("views", view, id(view))]],
    ...here,
    ["Services", services.map((each) => to("services", each, id(each)))],
  ]);
}

function listed(title, columns, rows) {
  return rows.length ? section(title, table(columns, rows, title)) : null;
}

function windowOf(one) {
  return one.window === null ? "every event before the time asked" : `${one.window}, its tail moves by ${one.hop}`;
}

function personal(thing) {
  return thing.personal ? badge("personal data", "warn") : null;
}

function policy(text) {
  return { serve: "is served", default: "gives way to the default", fail: "makes the read fail" }[text] ?? text;
}

function bare(thing) {
  return { name: thing.name };
}

function code(text) {
  return h("code", {}, text);
}

function columnsOf(each) {
  const told = Object.entries(each.columns).map(([name, column]) => `${name} = ${column}`);
  return told.length ? `for ${told.join(", ")}` : "";
}

function servedLink(shop, service, each) {
  return each.kind === "stored" ? link(href("features", each.reads[0]), each.name) : link(href("services", id(service), each.name), each.name);
}

function viewsOf(shop, service) {
  return viewsAmong(shop, service.features.flatMap((each) => each.reads));
}

function viewsAmong(shop, reads) {
  const ids = new Set(reads.map((name) => name.split(":")[0]));
  return shop.views.filter((each) => ids.has(id(each)));
}

function sourceLinks(views) {
  return [...new Set(views.map((each) => each.source))].map((name) => link(href("sources", name), name));
}

function rowOf(shop, view) {
  const columns = shop.source(view.source)?.columns ?? [];
  const keys = shop.entity(view.entity)?.join_keys ?? [];
  return Object.fromEntries(keys.map((name) => [name, sample(columns.find((each) => each.name === name)?.dtype)]));
}

function rowFor(shop, service) {
  const known = Object.assign({}, ...viewsOf(shop, service).map((each) => rowOf(shop, each)));
  return Object.fromEntries(service.keys.map((name) => [name, known[name] ?? sample()]));
}

function asked(service) {
  return Object.fromEntries(Object.entries(service.requests).map(([name, kind]) => [name, sample(kind)]));
}
